"""experiments.pla_head at a size that a test runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import pla_head
from experiments.pla_head import __main__ as study
from experiments.tables import read
from tests.conftest import SMALL


def test_a_row_for_each_reading_and_evaluation(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = [word for word in SMALL if word.startswith("dataset.")]
    network = ("model=pla", "backbone=small", "backbone.width=4", "model.dim=8")
    settings = (*network, *size, "dataset=market1501", "dataset.val_identities=3")
    monkeypatch.setattr(study, "SETTINGS", settings)
    monkeypatch.setattr(study, "EVERY", 1)
    words = ["--batches=2", "--readings", "bare-max", "neck-avg", f"--out={tmp_path}"]
    assert study.main([f"--root={people}", *words]) == 0
    rows = read(tmp_path / "curves.csv")
    assert [(row["head"], row["pool"], row["batch"]) for row in rows] == [
        (*reading, batch) for reading in (("bare", "max"), ("neck", "avg")) for batch in "12"
    ]
    for row in rows:
        assert float(row["cross_entropy"]) > 0 and float(row["triplet"]) > 0
        assert 0 < float(row["mAP"]) <= 1 and 0 <= float(row["rank1"]) <= 1


def test_the_committed_table_has_the_same_columns() -> None:
    (row, *_) = read(Path(pla_head.__file__).parent / "curves.csv")
    assert {"head", "pool", "seed", "batch", "cross_entropy", "triplet", "mAP", "rank1"} <= set(row)
