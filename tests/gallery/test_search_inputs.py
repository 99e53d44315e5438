"""What a search takes: folders, boxes, tracklets, embeddings; what it writes: tables and pages."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.queries import Queries, Spread, list_queries, pooled
from reid_lab.gallery_format.embedding_files import (
    EmbeddedImages,
    read_embeddings,
    write_embeddings,
)
from reid_lab.vectors.rows import distances
from tests.commands import embed as embed_main
from tests.commands import gallery as main
from tests.conftest import write_jpegs

Run = Callable[..., str]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A gallery of four images in a folder of its own, and queries beside it."""
    folder = tmp_path_factory.mktemp("search")
    names = ["ann@c1/1.jpg", "ann@c2/2.jpg", "bob@c1/3.jpg", "bob@c2/4.jpg"]
    write_jpegs(folder / "people", names, (64, 32))
    write_jpegs(folder / "tracks", ["a/1.jpg", "a/2.jpg", "b/1.jpg"], (64, 32))
    words = ["build", "--checkpoint", str(checkpoint), "--images", str(folder / "people")]
    words += ["--out", str(folder / "g"), "--pattern", r"(?P<pid>[^/@]+)@(?P<camid>[^/]+)/"]
    assert main(words) == 0
    return folder


@pytest.fixture
def run(
    there: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Search the gallery from a folder of the test's own; everything that it prints."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object, status: int = 0, network: bool = True) -> str:
        model = ("--checkpoint", checkpoint) if network else ()
        capsys.readouterr()
        given = [str(word) for word in ("search", there / "g", *model, "--top", 2, *words)]
        assert main(given) == status
        return "".join(capsys.readouterr())

    return call


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_a_folder_is_searched_image_by_image(run: Run, there: Path) -> None:
    run("--image", there / "people", "--out", "x.jsonl")
    found = lines("x.jsonl")
    assert [Path(one["query"]).name for one in found] == [f"{i}.jpg" for i in range(1, 5)]
    for one in found:
        first, second = one["matches"]
        assert first["path"] == one["query"] and first["distance"] < 1e-6 and first["right"]
        assert first["pid"] == one["query_pid"] and second["rank"] == 2


def test_tracklets_are_pooled(run: Run, there: Path) -> None:
    run("--image", there / "tracks", "--pool", "tracklet", "--out", "x.jsonl")
    a, b = lines("x.jsonl")
    assert (a["tracklet"], a["images"], b["tracklet"], b["images"]) == ("a", 2, "b", 1)
    assert a["spread"] > 0 and b["spread"] == 0
    run("--image", there / "tracks" / "b" / "1.jpg", "--out", "y.jsonl")
    (alone,) = lines("y.jsonl")
    for one, other in zip(alone["matches"], b["matches"], strict=True):
        assert one["path"] == other["path"]
        assert one["distance"] == pytest.approx(other["distance"], abs=1e-5)
    assert re.search(
        r"tracklet a \(2 images, spread 0\.\d+\)",
        run("--image", there / "tracks", "--pool", "tracklet"),
    )
    assert "there are no tracklets" in run(
        "--image", there / "tracks" / "b" / "1.jpg", "--pool", "tracklet", status=1
    )


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_files_of_embeddings_need_no_network(
    ending: str, run: Run, there: Path, checkpoint: Path
) -> None:
    words = ["--checkpoint", checkpoint, "--images", there / "people", "--out", f"q.{ending}"]
    assert embed_main([str(word) for word in words]) == 0
    run("--image", f"q.{ending}", "--out", "x.jsonl", network=False)
    run("--image", there / "people", "--out", "y.jsonl")
    for one, other in zip(lines("x.jsonl"), lines("y.jsonl"), strict=True):
        assert one["query"] == other["query"]
        assert [m["path"] for m in one["matches"]] == [m["path"] for m in other["matches"]]
    read = read_embeddings(Path(f"q.{ending}"))
    write_embeddings(Path("other.npz"), EmbeddedImages("b" * 64, read.exits, read.paths))
    assert "embeddings of two models cannot" in run("--image", "other.npz", status=1)
    few = {"stage1": read.exits["stage1"]}
    write_embeddings(Path("few.npz"), EmbeddedImages(read.fingerprint, few, read.paths))
    assert "has no exit 'fusion'; available: stage1" in run("--image", "few.npz", status=1)
    none = {name: rows[:0] for name, rows in read.exits.items()}
    write_embeddings(Path("none.npz"), EmbeddedImages(read.fingerprint, none, read.paths[:0]))
    assert "none.npz has no images" in run("--image", "none.npz", status=1)
    assert "images are embedded by a network: give --checkpoint" in run(
        "--image", there / "people", network=False, status=1
    )


def test_boxes_of_a_frame_are_queries(run: Run, there: Path) -> None:
    Path("boxes.csv").write_text("left,top,right,bottom\n0,0,32,64\n4,4,20,60\n", encoding="utf-8")
    image = there / "people" / "ann@c1" / "1.jpg"
    run("--image", image, "--boxes", "boxes.csv", "--out", "x.jsonl")
    whole, part = lines("x.jsonl")
    assert whole["box"] == "0 0 32 64" and whole["matches"][0]["distance"] < 1e-6
    assert part["box"] == "4 4 20 60" and part["matches"][0]["distance"] > 1e-3
    run("--image", image, "--boxes", "boxes.csv", "--out", "x.html")
    page = Path("x.html").read_text(encoding="utf-8")
    assert len(set(re.findall(r'src="data:[^"]+"', page))) >= 3  # each crop is its own image
    assert "--boxes are of one image, and 2 were given" in run(
        "--image", image, image, "--boxes", "boxes.csv", status=1
    )


def test_tables_have_a_row_for_each_match(run: Run, there: Path) -> None:
    query = ("--image", there / "people")
    run(*query, "--out", "x.csv")
    run(*query, "--out", "x.parquet")
    with Path("x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["pid"]) for row in rows][::2] == [
        ("1", name) for name in ("ann", "ann", "bob", "bob")
    ]
    parquet = pytest.importorskip("pyarrow.parquet").read_table("x.parquet").to_pylist()
    assert len(parquet) == len(rows) == 8 and list(parquet[0]) == list(rows[0])
    assert "must end in .jsonl, .csv, .parquet, .html" in run(*query, "--out", "x.txt", status=1)
    assert "is not a folder with write" in run(*query, "--out", "x.csv/y.csv", status=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_pooling_and_spread_against_a_loop(metric: Any) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(7, 5)).astype(np.float32)
    names = ["a", "b", "a", "", "b", "a", ""]
    images = [Labelled(Path(f"{i}.jpg"), tracklet=name) for i, name in enumerate(names)]
    found = pooled(Queries(images, rows), metric)
    assert [image.path.name for image in found.images] == ["0.jpg", "1.jpg", "3.jpg", "6.jpg"]
    used = rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows
    for members, row, spread in zip(
        ([0, 2, 5], [1, 4], [3], [6]), found.embeddings, found.spreads or (), strict=True
    ):
        np.testing.assert_allclose(row, used[members].mean(0), rtol=1e-5)
        if metric == "cosine":
            away = [1 - x @ row / np.linalg.norm(row) for x in used[members]]
        else:
            away = [np.linalg.norm(x - row) for x in used[members]]
        assert spread.images == len(members)
        assert spread.distance == pytest.approx(np.mean(away), abs=1e-6)
    assert isinstance(spread, Spread)
    np.testing.assert_allclose(np.diag(distances(rows, rows, metric)), 0, atol=1e-6)


def test_inputs_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros((2, 3)))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="empty has no image"):
        list_queries([tmp_path / "empty"])
    for name, message in {
        "bad.npz": "cannot be read as .npz",
        "pickled.npz": "cannot be read as .npz: Object arrays cannot be loaded",
        "other.npz": "is not a file of reid-lab embed: expected paths, a fingerprint",
        "none.npz": "does not exist",
        "none.parquet": "does not exist",
    }.items():
        with pytest.raises(UserError, match=re.escape(message)):
            read_embeddings(tmp_path / name)
