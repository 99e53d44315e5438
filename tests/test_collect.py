"""Tables of runs, copied into a study's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.collect import main
from experiments.tables import read


def test_accuracies_while_training_are_a_table_of_their_own(tmp_path: Path) -> None:
    log = tmp_path / "run/logs/version_0/metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text(
        "step,train/loss,train/lr,val/joint/rank1,val/joint/mAP,val/local/rank1,val/local/mAP\n"
        "9,2.5,0.1,,,,\n"
        "9,,,0.25,0.5,0.125,0.375\n"
        "19,1.5,0.1,,,,\n"
    )
    main(str(tmp_path / "study"), f"first={tmp_path / 'run'}")
    assert [list(row.values()) for row in read(tmp_path / "study/validation.csv")] == [
        ["first", "9", "joint", "0.25", "0.5"],
        ["first", "9", "local", "0.125", "0.375"],
    ]
    losses = [float(row["loss"]) for row in read(tmp_path / "study/curves.csv")]
    assert losses == pytest.approx([2.5, 1.5])


def test_a_training_without_validations_has_no_such_table(tmp_path: Path) -> None:
    log = tmp_path / "run/logs/version_0/metrics.csv"
    log.parent.mkdir(parents=True)
    log.write_text("step,train/loss\n9,2.5\n")
    main(str(tmp_path / "study"), f"first={tmp_path / 'run'}")
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["curves.csv"]
