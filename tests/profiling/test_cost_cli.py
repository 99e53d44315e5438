"""`reid-lab cost`: a table without data, weights or training."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reid_lab.config.build import build_model
from reid_lab.config.make import make
from reid_lab.cost.mul_adds import count_exits
from reid_lab.errors import UserError
from reid_lab.output.console import stdout
from reid_lab.profiling import compare, measure, measure_costs
from tests.commands import cost as main
from tests.conftest import TINY, Compose

SIZE = ("dataset.transforms.height=64", "dataset.transforms.width=32")
QUICK = ("--batch=2", "--repeats=2", "--seconds=0.1", "--device=cpu", "--allocator=default")
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in `tmp_path`; everything that it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stdout, "_width", 200)

    def call(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        returned = main([*QUICK, *words])
        printed = "".join(capsys.readouterr())
        assert returned == status, printed
        return printed

    return call


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_published_experiment_needs_nothing(run: Run, tmp_path: Path) -> None:
    small = (*SIZE, *TINY[2:])  # its backbone has ImageNet weights, its data set no root
    printed = run("+experiment=dare_market", *small, "--gallery=50", "--csv=cost.csv")
    for word in ("dare_market, 64x32", "stage1", "fusion", "hsv_histogram (reference)", "Gallery"):
        assert word in printed
    table = {row["exit"]: row for row in rows(tmp_path / "cost.csv")}
    assert (table["fusion"]["gallery_bytes"], table["fusion"]["dim"]) == (str(4 * 8 * 50), "8")
    assert not [path for path in tmp_path.iterdir() if path.name != "cost.csv"]


def test_a_narrow_terminal_gets_every_column(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdout, "_width", 60)
    enough = ("--repeats=5", "--seconds=10")  # of fewer passes no p95 is shown
    printed = run(*TINY, *SIZE, *enough)
    assert "…" not in printed
    for head in ("Mul-Adds", "Peak memory", "Latency p50", "p95", "Images/s", "Embedding"):
        assert head in printed
    tables = [line for line in printed.splitlines() if line.strip().startswith("Exit ")]
    assert len(tables) > 1


def test_a_checkpoint_is_measured_as_it_was_trained(
    run: Run, tmp_path: Path, composed: Compose
) -> None:
    model = build_model(composed("model=dare", *TINY))
    state = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save(state, tmp_path / "tiny.ckpt")
    run("--checkpoint=tiny.ckpt", "--csv=cost.csv")
    counted = count_exits(model, 64, 32)
    *exits, reference = rows(tmp_path / "cost.csv")
    assert {row["exit"]: int(row["mul_adds"]) for row in exits} == counted
    # features see the centre of the image, as in a test
    features = make(composed(*TINY), f"callbacks.ranking.references.{reference['exit']}")
    assert int(reference["mul_adds"]) == features.mul_adds(64, 32)


def test_a_profile_is_added_to_its_file(run: Run, tmp_path: Path) -> None:
    words = (*TINY, *SIZE, "callbacks.ranking.references=null", "--profile=profile.csv")
    run(*words, "--gallery=40")
    printed = run(*words, "--gallery=50")
    assert "gallery of 50: profile.csv" in printed and "One search" in printed
    found = rows(tmp_path / "profile.csv")
    assert [(row["gallery"], row["batch"]) for row in found[::5]] == [
        (gallery, batch) for gallery in ("40", "50") for batch in ("1", "2")
    ]
    assert all(float(row["network_ms"]) > 0 < float(row["matching_ms"]) for row in found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.lr=fast",), "model.lr"),
        (("+experiment=bogus",), "bogus"),
        (("dataset.transforms.test_views=3",), "dataset.transforms.test_views"),
        (("trainer.precision=7-bit",), "trainer.precision"),
        (("--device=bogus",), "bogus.*try cpu"),
        (("--checkpoint=none.ckpt",), "none.ckpt"),
    ],
)
def test_what_is_wrong_is_told(run: Run, words: tuple[str, ...], message: str) -> None:
    printed = run(*TINY, *words, status=2)
    assert re.search(message, printed)
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    "words", [("--batch=0",), ("--seconds=0",), ("--allocator=other",), ("--profile=x",)]
)
def test_wrong_options_end_with_status_2(words: tuple[str, ...]) -> None:
    assert main(words) == 2


def test_allocators_take_turns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[str] = []

    def measured(args: object, way: str) -> list[SimpleNamespace]:
        turns.append(way)
        speed = 200 if way == "keep" else 100
        rate = 1.5 * speed if way == "keep" else speed
        latency = 1000 / speed
        return [
            SimpleNamespace(exit="pool", batch=8, latency_p50_ms=latency, images_per_second=rate)
        ]

    monkeypatch.setattr(compare, "_measured", measured)
    assert main(["--allocator=compare"]) == 0
    assert turns == ["default", "keep"] * 3
    printed = capsys.readouterr().out
    assert "2.00" in printed and "3.00" in printed


def test_costs_from_python(capsys: pytest.CaptureFixture[str]) -> None:
    quick: Any = {"batch_size": 2, "repeats": 1, "seconds": 0.01, "allocator": "default"}
    found = measure_costs([*TINY, *SIZE], gallery=50, **quick)
    assert [row.exit for row in found.rows][:2] == ["stage1", "stage2"]
    assert found.size == (64, 32) and found.profile == []
    with pytest.raises(UserError, match="a profile needs the size of the gallery"):
        measure_costs([*TINY, *SIZE], profile=True)
    assert "".join(capsys.readouterr()) == ""


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The children's commands run here: a process of their own takes seconds to start."""

    def call(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "reid_lab.cli", "cost"]
        monkeypatch.setattr("reid_lab.profiling.measure.keep_blocks", lambda: kept.append(True))
        status = main(command[4:])
        return subprocess.CompletedProcess(command, status, "", capsys.readouterr().err)

    kept: list[bool] = []
    monkeypatch.setattr(subprocess, "run", call)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("way", ["keep", "default"])
def test_a_child_measures_what_was_asked(way: str) -> None:
    words = [*TINY, *SIZE, "--batch-size=2", "--repeats=1", "--seconds=0.01"]
    found = compare._measured(words, way)
    assert [row.exit for row in found][:2] == ["stage1", "stage2"]
    assert (found[0].batch, found[0].repeats) == (2, 1)


@pytest.mark.usefixtures("in_process")
def test_a_childs_error_is_told_once() -> None:
    with pytest.raises(UserError, match="^The config has 1 problem"):
        compare.compare_allocators([*TINY, "model.dim=0"])


def test_no_weights_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(network: object, weights: object, *_: object, **__: object) -> None:
        assert weights is None

    monkeypatch.setattr("reid_lab.backbone.resnet.load_weights", load)
    cfg = measure.composed_network(["backbone=resnet18", *SIZE])
    assert cfg.backbone.weights == "imagenet"
    assert measure.build(cfg, None, "cpu").size == (64, 32)
