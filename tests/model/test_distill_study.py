"""The study of a student's rate: from the folders of sweeps to the rate chosen for each arm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.distill_synthetic.__main__ import main
from experiments.tables import read
from reid_lab.errors import UserError

LOG = "step,val/pool/mAP,val/pool/rank1\n299,0.9,0.9\n599,{mAP},0.5\n"


def write_job(folder: Path, key: str, rate: str, held_out: float, status: str = "done") -> None:
    """What a job of a multirun leaves, as far as it is read."""
    metrics = {"test/pool/mAP": held_out / 2, "test/pool/rank1": 0.25}
    summary = {"metrics": metrics, "mul_adds": {"pool": 7}, "seed": 0, "commit": "abc"}
    texts = {
        ".hydra/overrides.yaml": f"- {key}={rate}\n",
        ".hydra/status.json": json.dumps({"job": 0, "status": status}),
        "results/summary.json": json.dumps({**summary, "machine": "m", "elapsed_s": 1.0}),
        "logs/version_0/metrics.csv": LOG.format(mAP=held_out),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_each_arm_has_the_rate_of_its_best_last_held_out_accuracy(tmp_path: Path) -> None:
    for number, (rate, held_out) in enumerate([("0.5", 0.2), ("0.05", 0.6), ("0.15", 0.4)]):
        write_job(tmp_path / "taught" / str(number), "model.student.lr", rate, held_out)
    write_job(tmp_path / "more" / "0", "model.student.lr", "1.5", 0.7)
    write_job(tmp_path / "more" / "1", "model.student.lr", "5", 0.8, "failed")
    write_job(tmp_path / "alone" / "0", "model.lr", "0.02", 0.3)
    words = [f"taught={tmp_path / 'taught'}", f"taught={tmp_path / 'more'}"]
    assert main([*words, f"alone={tmp_path / 'alone'}", "--out", str(tmp_path)]) == 0
    rows = read(tmp_path / "rates.csv")
    found = [(r["arm"], float(r["lr"]), float(r["val_mAP"]), r["chosen"]) for r in rows]
    assert found == [
        ("taught", 0.05, 0.6, "0"),
        ("taught", 0.15, 0.4, "0"),
        ("taught", 0.5, 0.2, "0"),
        ("taught", 1.5, 0.7, "1"),
        ("alone", 0.02, 0.3, "1"),
    ]
    assert float(rows[0]["test_mAP"]) == 0.3 and rows[0]["commit"] == "abc"


def test_nothing_to_collect(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run with held-out people"):
        main([f"taught={tmp_path}", "--out", str(tmp_path)])
