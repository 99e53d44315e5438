"""Thresholds are fitted at the end of training and travel in the checkpoint."""

from __future__ import annotations

import csv
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from reid_lab.budget.exit_calibration import KEY, exit_calibration_of
from reid_lab.callbacks import EarlyExitThresholds
from reid_lab.config.check import ConfigError
from reid_lab.config.paths import last_checkpoint
from reid_lab.run.run import run
from tests.conftest import TINY, Compose

pytestmark = pytest.mark.filterwarnings("ignore:early exit:UserWarning")

STEPS = (*TINY, "model.iterations=4", "trainer.log_every_n_steps=1", "trainer.val_check_interval=4")
LEFT_OUT = ("cost", "ranked_lists", "attention", "verification", "dimensions", "throughput")
LEFT_OUT += ("conditions",)
FEW = (
    *STEPS,
    *(f"callbacks.{name}=null" for name in LEFT_OUT),
    "callbacks.exit_thresholds.identities=100",
    "callbacks.stream.policies=[margin,learned]",
    "callbacks.stream.thresholds=[online,fitted]",
    "callbacks.stream.points=3",
)


def policies(folder: Path) -> set[tuple[str, str]]:
    with (folder / "results" / "stream.csv").open(newline="") as file:
        return {(row["policy"], row["thresholds"]) for row in csv.DictReader(file)}


@pytest.mark.system
@pytest.mark.parametrize(("every", "held"), [(4, 0), (2, 3), (500, 0)])  # 500: not saved yet
def test_the_checkpoint_has_them_however_often_it_was_saved(
    composed: Compose, every: int, held: int
) -> None:
    saves = f"callbacks.checkpoint.every_n_train_steps={every}"
    cfg = composed(*FEW, saves, f"dataset.val_identities={held}")
    folder = Path(cfg.run_dir)
    if held:
        run(cfg)
    else:
        with pytest.warns(UserWarning, match="fitted on training people, on whom"):
            run(cfg)
    checkpoint = torch.load(last_checkpoint(folder), weights_only=True)
    known = exit_calibration_of(checkpoint)
    assert checkpoint["global_step"] == 4
    assert known.exits == ("stage1", "stage2", "stage3", "fusion")
    assert known.held_out == bool(held) and known.queries >= 6
    asked = {*product(("margin", "learned"), ("online", "fitted"))}
    assert policies(folder) == asked
    if every > 2:
        return
    again = composed(*FEW, "task=test", f"ckpt_path={last_checkpoint(folder)}", run="again")
    run(again)
    assert policies(Path(again.run_dir)) == asked


@pytest.mark.system
def test_killed_before_they_are_fitted(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step is in the checkpoint, its thresholds are not yet: a resumed run fits them."""
    whole, killed = composed(*FEW, run="whole"), composed(*FEW, run="killed")
    run(whole)
    with monkeypatch.context() as patch:
        patch.setattr(EarlyExitThresholds, "on_train_end", lambda *_: sys.exit(1))
        with pytest.raises(SystemExit):
            run(killed)
    run(composed(*FEW, "ckpt_path=last", run="killed"))
    one, two = (
        torch.load(last_checkpoint(Path(cfg.run_dir)), weights_only=True)["callbacks"][KEY]
        for cfg in (whole, killed)
    )
    assert str(one) == str(two)
    stream = Path("results", "stream.csv")
    assert (Path(killed.run_dir) / stream).read_text() == (Path(whole.run_dir) / stream).read_text()


@pytest.mark.system
def test_those_of_earlier_weights_are_dropped(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that goes on and is killed keeps none of the weights that it went on from."""
    short = composed(*FEW, "trainer.max_steps=2", run="resumed")
    run(short)
    last = last_checkpoint(Path(short.run_dir))
    assert exit_calibration_of(torch.load(last, weights_only=True)).queries
    monkeypatch.setattr(EarlyExitThresholds, "on_train_end", lambda *_: sys.exit(1))
    with pytest.raises(SystemExit):
        run(composed(*FEW, "ckpt_path=last", run="resumed"))
    state = torch.load(last, weights_only=True)
    assert state["global_step"] == 4 and not state["callbacks"].get(KEY)


@pytest.mark.system
def test_a_checkpoint_without_them_is_tested_without_them(composed: Compose) -> None:
    cfg = composed(*FEW, "callbacks.exit_thresholds=null")
    with pytest.warns(UserWarning, match="train to the end with callbacks.exit_thresholds"):
        run(cfg)
    assert policies(Path(cfg.run_dir)) == {("margin", "online")}
    assert KEY not in torch.load(last_checkpoint(Path(cfg.run_dir)), weights_only=True)["callbacks"]


@pytest.mark.system
def test_what_a_projection_changes_is_not_routed_by_them(composed: Compose) -> None:
    cfg = composed(*FEW, "callbacks.ranking.pca=5")
    with pytest.warns(UserWarning, match="without callbacks.ranking.pca"):
        run(cfg)
    assert policies(Path(cfg.run_dir)) == {("margin", "online")}


@pytest.mark.parametrize(
    "override",
    [
        "callbacks.exit_thresholds.identities=0",
        "callbacks.exit_thresholds.candidates=some",
        "callbacks.stream.thresholds=[guessed]",
        "callbacks.stream.orders=[sorted]",
        "callbacks.stream.gallery=small",
    ],
)
def test_wrong_options_are_told_first(composed: Compose, override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        run(composed(*FEW, override))
