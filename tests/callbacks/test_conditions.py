"""Accuracy by image size, sharpness and occlusion of the query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reid_lab.callbacks.conditions import (
    HISTOGRAM,
    STRIPES,
    accuracy_by_quartile,
    image_sizes,
    occlusion,
    sharpness,
)
from reid_lab.config.build import build_trainer
from reid_lab.dataset import Split
from reid_lab.results import results_of
from reid_lab.results.rows.accuracy import CONDITIONS, MEASURES
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate
from reid_lab.retrieval.bootstrap import bootstrap
from reid_lab.run.run import run
from tests.conftest import Compose, write_jpegs
from tests.retrieval.people import crowd


def stripes(pixels: torch.Tensor) -> torch.Tensor:
    return HISTOGRAM(pixels).unflatten(1, (STRIPES, -1))


def people(pids: list[int], camids: list[int]) -> Ids:
    names = np.array([f"{c}_{i}.jpg" for i, c in enumerate(camids)], dtype=object)
    return Ids(torch.tensor(pids), torch.tensor(camids), names)


def clothed(count: int) -> torch.Tensor:
    """(N, 3, 48, 16) uint8: the same person, each stripe of one colour."""
    colours = torch.randint(0, 256, (3, STRIPES), generator=torch.Generator().manual_seed(0))
    image = colours.repeat_interleave(8, 1)[:, :, None].expand(3, 48, 16)
    return image.to(torch.uint8).repeat(count, 1, 1, 1)


def test_blur_lowers_sharpness() -> None:
    noise = torch.randint(0, 256, (2, 3, 20, 10), generator=torch.Generator().manual_seed(1))
    blurred = torch.nn.functional.avg_pool2d(noise.float(), 3, 1, 1)
    low, high = sharpness(blurred.to(torch.uint8)), sharpness(noise.to(torch.uint8))
    assert low.shape == (2,) and (low < high / 4).all()
    assert sharpness(torch.full((1, 3, 8, 8), 9, dtype=torch.uint8)) == pytest.approx(0, abs=1e-6)


def test_a_covered_stripe_is_occlusion_and_other_light_is_not() -> None:
    query, gallery = clothed(3), clothed(2)
    query[1, :, 32:40] = torch.tensor([255, 255, 255])[:, None, None]  # covers a stripe
    query[2] = 255  # every stripe is other than in the gallery
    q, g = people([1, 1, 1], [1, 1, 1]), people([1, 1], [2, 2])
    found = occlusion(stripes(query), stripes(gallery), q, g, "same_person_and_camera")
    assert found == pytest.approx([0, 1, 0], abs=1e-5)


def test_images_that_the_query_may_not_see_do_not_count() -> None:
    query, covered = clothed(2), clothed(2)
    covered[1, :, 8:16] = 0
    q, g = people([1, 2], [1, 1]), people([1, 1], [1, 2])
    found = occlusion(stripes(query), stripes(covered), q, g, "same_person_and_camera")
    assert found[0] == pytest.approx(1, abs=1e-5)  # camera 1 has the same image, hidden
    assert np.isnan(found[1])  # nobody of pid 2


def test_sizes_are_of_boxes_or_files(tmp_path: Path) -> None:
    names = ["a.jpg", "b.jpg"]
    write_jpegs(tmp_path, names, (16, 8))
    ids = np.ones(2, np.int64)
    split = Split(tmp_path, np.array(names, dtype="S"), ids, ids, ids)
    assert image_sizes(split).tolist() == [128, 128]
    boxes = np.array([[0, 0, 4, 5], [1, 1, 3, 3]], np.int32)
    boxed = Split(tmp_path, np.array(names, dtype="S"), ids, ids, ids, boxes)
    assert image_sizes(boxed).tolist() == [20, 4]


def test_quartiles_hold_each_answerable_query_once() -> None:
    query, gallery, q, g = crowd(1, noise=1.0)
    evaluation = evaluate(Embeddings(q, g, {"a": Exit(query, gallery, 1)}))
    ranking = evaluation.rankings["a"]
    values = np.random.default_rng(0).permutation(len(q)).astype(float)
    rows = list(accuracy_by_quartile(evaluation, "a", "size", values))
    assert [row.part for row in rows] == [1, 2, 3, 4]
    assert sum(row.queries for row in rows) == int(ranking.answerable.sum())
    assert all(a.high < b.low for a, b in zip(rows, rows[1:], strict=False))
    total = sum(row.queries * row.rank1 for row in rows)
    assert total == pytest.approx(ranking.rank1 * int(ranking.answerable.sum()))
    known = ranking.answerable[0].numpy()
    first = torch.from_numpy(np.flatnonzero(known & (values <= rows[0].high)))
    assert rows[0].mAP == ranking.take(first).mAP
    assert rows[0].mAP_low == bootstrap(ranking.take(first), q.pids[first])["mAP_low"]
    same = np.ones(len(q))
    assert list(accuracy_by_quartile(evaluation, "a", "size", same)) == []


@pytest.mark.system
def test_a_run_writes_them(composed: Compose) -> None:
    off = ("anytime", "exit_thresholds", "stream", "verification", "cost", "ranked_lists")
    tiny = ("backbone=small", "backbone.width=4", "model.hidden=16", "model.dim=8")
    cfg = composed(*tiny, "model.iterations=1", *(f"callbacks.{name}=null" for name in off))
    assert build_trainer(cfg)
    run(cfg)
    rows = CONDITIONS.read(results_of(Path(cfg.run_dir)) / CONDITIONS.file)
    assert {row.condition for row in rows} <= set(MEASURES)
    assert {"sharpness", "occlusion"} <= {row.condition for row in rows}
    assert {row.exit for row in rows} == {"fusion"}
