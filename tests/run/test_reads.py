"""A run reads its data set once and its checkpoint once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_lab.config.paths import last_checkpoint
from reid_lab.dataset.readers import market1501
from reid_lab.run.run import run
from tests.conftest import Compose

# on as few people as a test has
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:verification:UserWarning")]

TINY = (
    "dataset=folder",
    "backbone=small",
    "backbone.width=4",
    "model.hidden=8",
    "model.dim=8",
    "model.iterations=2",
)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often a data set was read, and each file that torch loaded."""
    counted: Counter[str] = Counter()
    load, read = torch.load, market1501.read_folder

    def loading(path: Any, *args: Any, **options: Any) -> Any:
        counted[str(path if isinstance(path, str | Path) else path.name)] += 1
        return load(path, *args, **options)

    def reading(*args: Any, **options: Any) -> Any:
        counted[args[1]] += 1
        return read(*args, **options)

    monkeypatch.setattr(torch, "load", loading)
    monkeypatch.setattr(market1501, "read_folder", reading)
    yield counted


def test_training_and_going_on(composed: Compose, reads: Counter[str]) -> None:
    cfg = composed(*TINY)
    run(cfg)
    assert reads["bounding_box_train"] == 1
    reads.clear()
    run(
        composed(
            *TINY, "model.iterations=3", f"ckpt_path={last_checkpoint(Path(cfg.run_dir))}", run="b"
        )
    )
    assert reads["bounding_box_train"] == 1 and reads[str(last_checkpoint(Path(cfg.run_dir)))] == 1


@pytest.mark.parametrize("height", [64, 48])
def test_testing(composed: Compose, reads: Counter[str], height: int) -> None:
    cfg = composed(*TINY)
    run(cfg)
    reads.clear()
    size = f"dataset.transforms.height={height}"
    path = last_checkpoint(Path(cfg.run_dir))
    run(composed(*TINY, "task=test", f"ckpt_path={path}", size))
    assert reads["bounding_box_train"] == 1 and reads[str(last_checkpoint(Path(cfg.run_dir)))] == 1


def test_a_teacher(composed: Compose, reads: Counter[str], tmp_path: Path) -> None:
    cfg = composed(*TINY)
    run(cfg)
    reads.clear()
    teacher = last_checkpoint(Path(cfg.run_dir))
    student = ("model=distilled", "model@model.student=dare", "model.soft_targets=false")
    sizes = ("model.student.hidden=8", "model.student.dim=8", "model.student.iterations=2")
    taught = ("model.features=relation", f"model.teacher={teacher}", *student, *sizes)
    run(composed(*TINY[:3], *taught, run="taught"))
    assert reads["bounding_box_train"] == 1 and reads[str(teacher)] == 1
