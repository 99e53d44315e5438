"""experiments.backbones: its networks exist, what counts of the rounds, its correlations."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode

from experiments.backbones import __main__ as study
from reid_lab.backbone import Backbone
from reid_lab.cost.mul_adds import count_exits
from tests.methods import SIZE, composed, method


@pytest.mark.recipe
@pytest.mark.parametrize("name", study.NETWORKS)
def test_networks_exist(name: str) -> None:
    model = method("classifier", *study.NETWORKS[name])
    assert count_exits(model, *SIZE)["pool"] > 1e5


def test_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Sequence[str]] = []

    def measure(overrides: Sequence[str], args: argparse.Namespace) -> dict[str, str]:
        calls.append(overrides)
        number = list(study.NETWORKS.values()).index(tuple(overrides)) + 1
        slow = 2 if len(calls) <= len(study.NETWORKS) else 1  # the first round
        row = {"mul_adds": number, "parameters": 1 / number, "peak_memory_bytes": 7 * number}
        row |= {"p50_ms": 5 * number * slow, "images_per_second": 100 / number / slow}
        return {column: str(value) for column, value in row.items()}

    monkeypatch.setattr(study, "measure", measure)
    assert study.main(["--rounds", "2", "--out", str(tmp_path)]) == 0
    assert calls == [*study.NETWORKS.values()] * 2  # in rounds, not one after the other
    with (tmp_path / "backbones.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == list(study.NETWORKS)
    assert float(rows[1]["p50_ms"]) == 10 and float(rows[1]["images_per_second"]) == 50
    assert float(rows[1]["p50_spread"]) == 1 and rows[1]["image"] == "256x128"
    assert (tmp_path / "backbones.png").stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "Mul-Adds and latency: 1.00" in printed and "parameters: -1.00" in printed


def documented() -> dict[str, list[str]]:
    """Network -> the other cells of its row in docs/networks.md."""
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if " M |" in line]
    return {name: cells for name, *cells in rows}


@pytest.mark.recipe
@torch.no_grad()
@pytest.mark.parametrize("name", documented())
def test_the_costs_in_the_docs(name: str) -> None:
    size = ("dataset.transforms.height=256", "dataset.transforms.width=128")
    with torch.device("meta"):
        node = composed(*study.NETWORKS[name], *size).backbone
        network: Backbone = instantiate(node, weights=None).eval()
        x, counts = torch.zeros(1, 3, 256, 128), []
        with FlopCounterMode(display=False) as counter:
            for stage in network.stages.values():
                x = stage(x)
                counts.append(f"{counter.get_total_flops() / 2e6:,.0f}")
    channels, *stages, parameters = documented()[name]
    assert stages == counts
    alike = len({*network.channels}) == 1
    assert channels == (
        f"{network.channels[0]} each" if alike else ", ".join(map(str, network.channels))
    )
    assert parameters == f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M"


@pytest.mark.system
def test_a_measurement() -> None:
    args = argparse.Namespace(height=64, width=32, threads=1, batch=1)
    row = study.measure(study.NETWORKS["OSNet x0.25"], args)
    assert float(row["mul_adds"]) > 0 and float(row["peak_memory_bytes"]) > 0
