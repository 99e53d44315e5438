"""The cost account at the end of a test."""

from __future__ import annotations

import csv
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from reid_lab.backbone.small import SmallResNet
from reid_lab.callbacks import CostAccount, RankingEvaluation
from reid_lab.classical import HsvHistogram
from reid_lab.cost.mul_adds import count_exits
from reid_lab.dataset import Transforms
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe
from reid_lab.results import Results
from reid_lab.results.rows.cost import CostRow
from reid_lab.retrieval import Embeddings, Exit, Ids

GALLERY = 7


def ids(count: int, first: int) -> Ids:
    paths = np.array([f"{first + i}.jpg" for i in range(count)], dtype=object)
    return Ids(torch.arange(count), torch.zeros(count, dtype=torch.int64), paths)


def embeddings(costs: dict[str, int], dims: dict[str, int]) -> Embeddings:
    exits = {
        name: Exit(torch.rand(2, dims[name]), torch.rand(GALLERY, dims[name]), cost)
        for name, cost in costs.items()
    }
    return Embeddings(ids(2, 0), ids(GALLERY, 2), exits)


def written(folder: Path, precision: str = "32-true", views: Any = 1) -> list[dict[str, str]]:
    model = DaRe(SmallResNet(4), BatchHardTriplet(), hidden=16, dim=8)
    callback = CostAccount(batch=2, repeats=2, seconds=0.1)
    ranking = RankingEvaluation(references={"hsv": HsvHistogram(2, (2, 2, 2))})
    trainer: Any = pl.Trainer(
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        callbacks=[ranking, callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.datamodule = SimpleNamespace(transforms=Transforms(64, 32, test_views=views))
    model.trainer = trainer
    costs = dict(count_exits(model, 64, 32)) | {"hsv": 6 * 64 * 32}
    dims = dict.fromkeys(costs, 8) | {"hsv": 16}
    results = Results()
    callback.add(results, SimpleNamespace(embeddings=embeddings(costs, dims)), model)  # type: ignore[arg-type]
    results.write(folder)
    with (folder / "cost.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_exit_and_reference_has_a_row(tmp_path: Path, precision: str) -> None:
    rows = written(tmp_path, precision)
    assert set(rows[0]) == {f.name for f in fields(CostRow)}
    names = ["stage1", "stage2", "stage3", "stage4", "fusion", "hsv"]
    assert [row["exit"] for row in rows] == names
    fusion, hsv = rows[-2], rows[-1]
    assert int(fusion["gallery_bytes"]) == 4 * 8 * GALLERY
    assert int(fusion["matching_mul_adds"]) == 8 * GALLERY
    assert (fusion["batch"], fusion["precision"]) == ("2", precision)
    assert float(fusion["latency_p50_ms"]) <= float(fusion["latency_p95_ms"])
    assert (hsv["kind"], hsv["dim"], hsv["parameters"], hsv["precision"]) == (
        "reference",
        "16",
        "",
        "",
    )
    assert float(hsv["images_per_second"]) > 0


def test_one_of_ten_views_is_measured(tmp_path: Path) -> None:
    one, ten = (written(tmp_path / str(views), views=views)[0] for views in (1, 10))
    for column in ("mul_adds", "peak_memory_bytes", "parameters"):
        assert ten[column] == one[column], column
    assert (one["views"], ten["views"], ten["per"]) == ("1", "10", "view")
