"""What an index loses, against rankings of lists that are written down in full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import faiss  # isort: skip

from reid_lab.cli.show import gallery as show
from reid_lab.errors import UserError
from reid_lab.gallery.index import INDEX_NAMES, build
from reid_lab.gallery.planner import Estimate, IndexPlan, plan
from reid_lab.gallery.probe import Probe
from reid_lab.gallery.store import UNKNOWN, SavedGallery
from reid_lab.gallery.writer import create
from reid_lab.gallery_format.card import GalleryError
from reid_lab.retrieval import Ids
from reid_lab.runtime.gallery import Gallery
from tests.gallery.test_store import CARD
from tests.retrieval.people import crowd, euclidean, naive, seen

DIM = 8
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def saved(folder: Path, rows: torch.Tensor, ids: Ids, **card: Any) -> SavedGallery:
    with create(folder, replace(CARD, dim=DIM, **card)) as gallery:
        gallery.append(rows, ids)
    return SavedGallery.open(folder)


def pair(folder: Path, images: int = 700) -> tuple[SavedGallery, SavedGallery]:
    """(gallery, queries)."""
    query, gallery, q, g = crowd(0, 40, images, DIM, 0.6)
    return saved(folder / "g", gallery, g), saved(folder / "q", query, q)


def forgotten(ids: Ids, *names: str) -> Ids:
    unknown: dict[str, Any] = {name: torch.full((len(ids),), UNKNOWN) for name in names}
    return replace(ids, **unknown)


def ends_at(distances: np.ndarray, q: Ids, g: Ids, depth: int) -> np.ndarray:
    """Distances that rank as a list of `depth`, then people who are not sought, then matches."""
    changed = distances.copy()
    anybody = replace(g, pids=g.pids.clamp(min=0))  # junk takes a position, too
    for i in range(len(q)):
        order = distances[i].argsort(kind="stable")
        listed = [j for j in order if seen(q, anybody, i, j, CAMERA)]
        for j in listed[depth:]:
            changed[i, j] = 1e3 + 1e3 * float(g.pids[j] == q.pids[i])
    return changed


CAMERA: Any = "same_person_and_camera"


def by_name(made: IndexPlan) -> dict[str, Any]:
    return {e.index: e for e in made.estimates}


def test_exact_rankings_equal_the_naive_loop(tmp_path: Path) -> None:
    query, rows, q, g = crowd(0, 40, 200, DIM, 0.6)
    gallery, queries = pair(tmp_path, 200)
    made = plan(gallery, queries, depth=12, names=["flat"])
    distances = euclidean(query, rows)
    assert made.whole is not None and made.cut is not None
    assert made.whole.summary() == pytest.approx(naive(distances, q, g), abs=1e-6)
    wanted = naive(ends_at(distances, q, g, 12), q, g)
    assert made.cut.summary() == pytest.approx(wanted, abs=1e-6)
    assert made.cut.mAP < made.whole.mAP - 0.01  # the end costs something
    (flat,) = made.estimates
    assert (flat.recall, flat.rank1_lost, flat.mAP_lost) == (1, 0, 0)


def test_what_is_not_returned_stands_last() -> None:
    """Two of four matches found, at places 1 and 3 of a list of 3, in a gallery of 10."""
    pids = torch.tensor([5, 5, 5, 5, 1, 2, 3, 4, 6, 7])
    gallery = Ids(pids, torch.ones(10).long(), np.empty(10, dtype=object))
    query = Ids(torch.tensor([5]), torch.tensor([2]), np.empty(1, dtype=object))
    counts = np.array([4]), np.array([0])
    probe = Probe(np.zeros((1, DIM), np.float32), query, gallery, *counts, depth=3)
    ranking = probe.score([np.array([0, 4, 1])])
    assert ranking.mAP == pytest.approx((1 / 1 + 2 / 3 + 3 / 9 + 4 / 10) / 4)
    assert ranking.mINP == pytest.approx(4 / 10)
    assert probe.score([np.array([0, 1, 2, 3])]).mAP == 1
    nothing = probe.score([np.array([], np.int64)])
    assert nothing.rank1 == 0
    assert nothing.mAP == pytest.approx(np.mean([1 / 7, 2 / 8, 3 / 9, 4 / 10]))


def test_every_index_is_measured(tmp_path: Path) -> None:
    gallery, queries = pair(tmp_path)
    told: list[str] = []
    made = plan(gallery, queries, size=70_000, depth=50, progress=told.append)
    assert tuple(told) == INDEX_NAMES == tuple(by_name(made))
    assert not made.problems
    for e in made.estimates:
        assert e.bytes > 0 and e.build_s > 0 and e.ms_one > 0 and e.ms_batch > 0
        assert e.recall > (0.4 if e.index == "ivf_pq" else 0.85)
        assert e.mAP_lost is not None and abs(e.mAP_lost) < 0.2
        assert e.bytes_at_size > 20 * e.bytes and e.ms_at_size > e.ms_one
    flat = by_name(made)["flat"]
    assert flat.bytes == 700 * DIM * 4 and flat.bytes_at_size == 70_000 * DIM * 4
    assert by_name(made)["ivf_pq"].bytes_at_size < flat.bytes_at_size


def test_extrapolated_bytes_are_those_of_a_larger_index(tmp_path: Path) -> None:
    made = plan(pair(tmp_path)[0], size=4000)
    rows = np.random.default_rng(0).normal(size=(4000, DIM)).astype(np.float32)
    for name in ("flat", "ivf", "sq8"):
        real = build(name, rows).nbytes
        assert by_name(made)[name].bytes_at_size == pytest.approx(real, rel=0.1)


def test_images_of_the_gallery_ask_for_each_other(tmp_path: Path) -> None:
    _, rows, _, g = crowd(0, 40, 120, DIM, 0.6)
    made = plan(saved(tmp_path / "g", rows, g), names=["flat"], most=1000)
    asked = (g.pids > 0).nonzero().flatten()
    q = g.take(asked)
    assert made.queries == len(asked) and made.whole is not None
    assert made.whole.summary() == pytest.approx(
        naive(euclidean(rows[asked], rows), q, g), abs=1e-6
    )


def test_without_cameras_an_image_is_hidden_from_itself_alone(tmp_path: Path) -> None:
    _, rows, _, g = crowd(0, 40, 120, DIM, 0.6)
    made = plan(saved(tmp_path / "g", rows, forgotten(g, "camids")), names=["flat"], most=1000)
    asked = (g.pids > 0).nonzero().flatten()
    own = replace(g, camids=torch.arange(len(g)))  # a camera for each image
    wanted = naive(euclidean(rows[asked], rows), own.take(asked), own)
    assert made.whole is not None
    assert made.whole.summary() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("names", [("pids",), ("pids", "camids")])
def test_without_people_recall_alone_is_measured(names: tuple[str, ...], tmp_path: Path) -> None:
    _, rows, _, g = crowd(0, 40, 300, DIM, 0.6)
    made = plan(saved(tmp_path / "g", rows, forgotten(g, *names)), most=50)
    assert made.queries == 50 and made.whole is None and made.cut is None
    for e in made.estimates:
        assert e.recall > 0.8 and e.mAP_lost is None and e.rank1_lost is None
    assert "at least 624 images and there are 300" in made.problems["ivf_pq"]


def test_a_plan_with_milvus_says_that_it_is_no_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, _ = pair(tmp_path)
    lite = Estimate("milvus", 9, 0.1, 0.1, 0.1, 1.0, None, None, 9, 0.1)
    made = IndexPlan(700, 700, 9, 100, 10, 1, None, None, [lite], {})
    show.plan(made, gallery)
    told = " ".join(capsys.readouterr().out.split())
    assert "Milvus Lite, in this process; a server was not measured" in told
    assert "images/s" not in told  # numbers of another machine
    show.plan(replace(made, estimates=[replace(lite, index="flat")]), gallery)
    assert "server" not in capsys.readouterr().out


def test_an_emptied_gallery_is_told(tmp_path: Path) -> None:
    gallery, queries = pair(tmp_path)
    Gallery.open_rows(queries.folder).remove("pid!=nobody")
    empty = SavedGallery.open(queries.folder)
    for galleries in ((empty,), (gallery, empty)):
        with pytest.raises(UserError, match=f"{empty.folder} has no images: add some"):
            plan(*galleries)


def test_other_embeddings_are_refused(tmp_path: Path) -> None:
    gallery, _ = pair(tmp_path)
    query, _, q, _ = crowd(0, 40, 300, DIM)
    for number, card in enumerate(({"fingerprint": "b" * 64}, {"exit": "stage1"})):
        with pytest.raises(GalleryError, match="cannot be compared"):
            plan(gallery, saved(tmp_path / str(number), query, q, **card))
