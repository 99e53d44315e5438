"""Images/s and the share of a peak, as they are logged and printed."""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path

import pytest

from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.cost import peak
from reid_lab.cost.mul_adds import count_exits
from tests.conftest import TINY, Compose

UNUSED = (
    "cost",
    "ranked_lists",
    "attention",
    "verification",
    "stream",
    "exit_thresholds",
    "anytime",
)
UNUSED += ("conditions",)
RUN = (
    *TINY,
    "model.iterations=5",
    "trainer.log_every_n_steps=1",
    "callbacks.throughput.every=2",
    *(f"callbacks.{name}=null" for name in (*UNUSED, "dimensions", "ranking")),
)
PEAK = 1e8  # FLOP/s


def trained(composed: Compose) -> tuple[list[dict[str, str]], int]:
    """The rows of `metrics.csv` that have a throughput, and the Mul-Adds of an image."""
    cfg = composed(*RUN)
    data, trainer = build_data(cfg), build_trainer(cfg)
    model = build_model(cfg, data.identities)
    counts = count_exits(model, 64, 32)
    trainer.fit(model, data)
    (path,) = Path(cfg.run_dir).rglob("metrics.csv")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/images_per_second")]
    return rows, counts["fusion"]


def test_a_known_device_logs_its_share(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reid_lab")
    monkeypatch.setitem(peak.PEAKS, "cpu", {"fp32": PEAK / 1e12})
    rows, mul_adds = trained(composed)
    assert rows[0]["step"] == "1"  # the second step; Lightning repeats it until the next
    for row in rows:
        share = 6 * mul_adds * float(row["train/images_per_second"]) / PEAK
        assert float(row["train/peak_share"]) == pytest.approx(share, rel=1e-5)
    line = r"trained at ([\d,]+) images/s \(mean, without validation\), ([\d.]+)% of the peak in"
    (found,) = re.findall(line, caplog.text)
    share = 100 * 6 * mul_adds * float(found[0].replace(",", "")) / PEAK
    assert float(found[1]) == pytest.approx(share, rel=0.05)


def test_an_unknown_device_logs_images_alone(
    composed: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "reid_lab")
    rows, _ = trained(composed)
    assert rows
    assert "train/peak_share" not in rows[0]
    assert re.search(r"trained at [\d,]+ images/s \(mean, without validation\)\n", caplog.text)
