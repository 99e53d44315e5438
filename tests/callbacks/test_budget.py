"""Budgets in milliseconds at the end of a test, by a profile of this machine."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from reid_lab.budget.profile import Host, profile_beside
from reid_lab.config.build import build_model
from reid_lab.config.paths import last_checkpoint
from reid_lab.cost.mul_adds import count_exits
from reid_lab.errors import UserError
from reid_lab.results.rows.cost import PROFILE, ProfileRow
from reid_lab.run.run import run
from tests.callbacks.test_early_exit import LEFT_OUT, STEPS
from tests.conftest import TINY, Compose

GALLERY = 6 * 3 + 4  # of the miniature people, without junk
FEW = (
    *STEPS,
    *(f"callbacks.{name}=null" for name in (*LEFT_OUT, "exit_thresholds")),
    "callbacks.stream.policies=[random,margin]",
    "callbacks.stream.points=3",
    "callbacks.stream.cost=latency",
    "callbacks.anytime.cost=latency",
)


def profile(path: Path, composed: Compose, gallery: int) -> Path:
    """Each exit takes a millisecond more than the one before; a search takes 0.1."""
    here = Host.of(torch.device("cpu"))
    counted = count_exits(build_model(composed("model=dare", *TINY)), 64, 32)
    rows = [
        ProfileRow(
            exit=name,
            batch=1,
            network_ms=s + 1.0,
            matching_ms=0.1,
            network_joules=float("nan"),
            matching_joules=float("nan"),
            gallery=gallery,
            mul_adds=count,
            passes=1,
            machine=here.machine,
            device=here.device,
            threads=here.threads,
            allocator="",
            precision="32-true",
        )
        for s, (name, count) in enumerate(counted.items())
    ]
    PROFILE.write(path, rows)
    return path


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "results" / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.system
def test_curves_in_milliseconds(composed: Compose, tmp_path: Path) -> None:
    file = profile(tmp_path / "profile.csv", composed, GALLERY)
    given = [f"callbacks.{name}.profile={file}" for name in ("stream", "anytime")]
    cfg = composed(*FEW, *given)
    run(cfg)
    stream = table(Path(cfg.run_dir), "stream.csv")
    assert {row["cost"] for row in stream} == {"latency"}
    # from the first exit with a search to the last of `random`, which searches once
    assert [float(row["budget"]) for row in stream] == pytest.approx(2 * [1.1, 3.1, 5.1])
    assert float(stream[2]["spent"]) == pytest.approx(5.1)
    anytime = table(Path(cfg.run_dir), "anytime.csv")
    reached = {row["exit"]: float(row["budget"]) for row in reversed(anytime) if row["exit"]}
    assert reached["fusion"] == 5.0 and reached["stage1"] == 1.0
    last = last_checkpoint(Path(cfg.run_dir))
    profile_beside(last).write_bytes(file.read_bytes())
    again = composed(*FEW, "task=test", f"ckpt_path={last}", run="again")
    run(again)
    assert table(Path(again.run_dir), "stream.csv") == stream


@pytest.mark.system
@pytest.mark.parametrize(
    ("gallery", "more", "message"),
    [
        (0, (), r"callbacks.stream.cost=latency: there is no checkpoint yet.*profile=FILE"),
        (1, (), r"callbacks.stream.cost=latency: .* has gallery 1 on this machine, \d+ is needed"),
        (None, ("callbacks.stream.budgets=[99]",), "of 99 ms cannot be met"),
        (None, ("callbacks.stream.gallery=reduced",), "give gallery=whole"),
    ],
)
def test_what_does_not_fit_is_reported_before_the_first_batch(
    composed: Compose,
    tmp_path: Path,
    gallery: int | None,
    more: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reid_lab.model.DaRe.training_step", lambda *_: pytest.fail("a batch"))
    file = profile(tmp_path / "profile.csv", composed, GALLERY if gallery is None else gallery)
    given = [] if gallery == 0 else [f"callbacks.stream.profile={file}"]
    with pytest.raises(UserError, match=message):
        run(composed(*FEW, *given, "callbacks.anytime.cost=mul_adds", *more))
