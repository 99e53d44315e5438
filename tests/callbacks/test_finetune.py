"""Fine-tuning: its length follows from the data, the best checkpoint is tested, it resumes."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from reid_lab.backbone.weights import WeightsFile
from reid_lab.backbone.weights.found import Choices
from reid_lab.backbone.weights.identify import identify
from reid_lab.budget.exit_calibration import KEY
from reid_lab.callbacks import Preflight, ScheduleFromData
from reid_lab.callbacks.preflight import duration
from reid_lab.checkpoint import checkpoint_of, load_model
from reid_lab.config.build import build_data
from reid_lab.dataset.splits import auto_held_out
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.results.card import ModelCard
from reid_lab.run.run import run
from tests.backbone.weights.golden import state_of
from tests.conftest import Compose

pytestmark = pytest.mark.system

TINY = ("+experiment=finetune", "dataset=folder", "backbone=small", "backbone.width=4")
FEW = (*TINY, "model.dim=8", "dataset.val_identities=3", "trainer.log_every_n_steps=1")
NONE = ("stream", "verification", "cost", "ranked_lists", "attention", "conditions", "throughput")
FEW = (*FEW, *(f"callbacks.{name}=null" for name in NONE))
SIX = (
    "callbacks.schedule.least=6",
    "callbacks.schedule.most=6",
    "callbacks.schedule.validations=3",
)


def logged(run_dir: Path, *names: str) -> dict[str, dict[int, float]]:
    """Name -> step -> value, of all attempts."""
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for path in sorted(run_dir.glob("logs/version_*/metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name in names:
                    if row.get(name):
                        found[name][int(row["step"])] = float(row[name])
    return found


def saved(run_dir: Path, name: str) -> dict[str, Any]:
    path = run_dir / "checkpoints" / name
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def weights_equal(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return all(torch.equal(value, two["state_dict"][k]) for k, value in one["state_dict"].items())


@pytest.mark.parametrize(
    ("batches", "steps"), [(1, 500), (10, 600), (1_000, 20_000)], ids=["least", "epochs", "most"]
)
def test_the_length_follows_from_the_data(batches: int, steps: int) -> None:
    assert ScheduleFromData().length(batches) == steps


def test_a_schedule_is_not_empty() -> None:
    with pytest.raises(UserError, match="least <= most"):
        ScheduleFromData(least=10, most=9)


@pytest.mark.parametrize(
    ("identities", "matchable", "held_out"),
    [(9, 9, 0), (10, 10, 2), (29, 29, 3), (751, 751, 75), (40, 3, 3), (40, 1, 0)],
)
def test_people_are_held_out_where_there_are_enough(
    identities: int, matchable: int, held_out: int
) -> None:
    assert auto_held_out(identities, matchable) == held_out


def test_what_auto_holds_out_is_noted(composed: Compose) -> None:
    data = build_data(composed("dataset=folder", "dataset.val_identities=auto"))
    assert data.val_identities == 0
    assert any(
        "no training identities are held out for validation: 8" in n for n in data.notes(True)
    )
    assert not any("held out" in note for note in data.notes(training=False))


def test_schedule_in_steps_and_the_rate_of_the_batch(composed: Compose) -> None:
    short = ("callbacks.schedule.least=20", "callbacks.schedule.epochs=1", "model.epoch=7")
    cfg = composed(*FEW, *short, "callbacks.early_stopping=null")
    run(cfg)
    kept = saved(Path(cfg.run_dir), "last.ckpt")
    recipe = kept["hyper_parameters"]["model"]
    assert kept["global_step"] == recipe["iterations"] == 20
    assert recipe["warmup"] == 2 and recipe["milestones"] == [10, 16]
    again: Any = load_model(Path(cfg.run_dir) / "checkpoints" / "last.ckpt")
    assert again.warmup == 2 and again.steps == [10, 16]
    assert recipe["lr"] == pytest.approx(3.5e-4 * (4 / 64) ** 0.5)  # P x K = 4
    rates = logged(Path(cfg.run_dir), "train/lr")["train/lr"]
    assert rates[2] == pytest.approx(recipe["lr"])
    assert rates[19] == pytest.approx(recipe["lr"] / 100)


def test_it_starts_from_a_converted_checkpoint(composed: Compose, tmp_path: Path) -> None:
    file = WeightsFile(Path("osnet_market.pth"), state_of("torchreid_osnet_x0_25"))
    start = checkpoint_of(file, identify(file, Choices()), ModelCard(data="Market-1501"))
    torch.save(start, tmp_path / "osnet.ckpt")
    words = [word for word in FEW if not word.startswith("backbone")]
    words += ["backbone=osnet", "backbone.width=0.25", f"backbone.weights={tmp_path}/osnet.ckpt"]
    words += ["callbacks.preflight=null", "model.lr=1e-6"]
    words += [f"callbacks.schedule.{key}=1" for key in ("least", "most", "validations")]
    cfg = composed(*words)
    run(cfg)
    end = saved(Path(cfg.run_dir), "best.ckpt")
    card = end["hyper_parameters"]["card"]
    assert card["pretraining"] == "osnet.ckpt, trained on Market-1501"
    first = "backbone.stages.stage1.stem.0.weight"
    before, after = start["state_dict"][first], end["state_dict"][first]
    assert not torch.equal(before, after)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)


def test_other_methods_have_no_such_schedule(composed: Compose) -> None:
    tiny = ("backbone=small", "backbone.width=4", "model=dare", "model.hidden=16", "model.dim=8")
    cfg = composed("dataset=folder", *tiny, "callbacks=finetune")
    with pytest.raises(UserError, match="DaRe has no warm-up"):
        run(cfg)


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Step -> mAP to report in its validation, in place of the true one."""
    given: dict[int, float] = {}
    log = ReidModule.log

    def changed(self: ReidModule, name: str, value: Any, *args: Any, **options: Any) -> None:
        if name.startswith("val/") and name.endswith("/mAP") and self.global_step in given:
            value = given[self.global_step]
        log(self, name, value, *args, **options)

    monkeypatch.setattr(ReidModule, "log", changed)
    return given


def test_the_best_checkpoint_is_tested(
    composed: Compose, scores: dict[int, float], caplog: pytest.LogCaptureFixture
) -> None:
    scores |= {2: 0.2, 4: 0.9, 6: 0.5}
    caplog.set_level(logging.INFO)
    cfg = composed(*FEW, *SIX)
    metrics = run(cfg)
    folder = Path(cfg.run_dir)
    best = saved(folder, "best.ckpt")
    assert best["global_step"] == 4 and saved(folder, "last.ckpt")["global_step"] == 6
    note = "tested: best.ckpt, of step 4 (val/stage4/mAP 90.0%)"
    assert ("reid_lab.run.fit", logging.INFO, note) in caplog.record_tuples
    assert note in json.loads((folder / "results" / "summary.json").read_text())["notes"]
    again = composed(*FEW, *SIX, "task=test", f"ckpt_path={folder}/checkpoints/best.ckpt")
    assert run(again) == pytest.approx(metrics)


def test_a_finished_training_that_is_resumed_tests_its_best(
    composed: Compose, scores: dict[int, float], caplog: pytest.LogCaptureFixture
) -> None:
    scores |= {2: 0.2, 4: 0.3, 6: 0.5}  # the last validation is after the last checkpoint
    metrics = run(composed(*FEW, *SIX))
    caplog.set_level(logging.INFO)
    assert run(composed(*FEW, *SIX, "ckpt_path=last")) == metrics
    assert "tested: best.ckpt, of step 6 (val/stage4/mAP 50.0%)" in caplog.text


def killed_in(hook: str, cfg: DictConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until a hook of a step, as a killed run; what it has written stays."""
    end = getattr(ReidModule, hook)

    def stop(self: ReidModule, *args: Any) -> None:
        if self.global_step == step:
            raise RuntimeError("killed")
        end(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(ReidModule, hook, stop)
        run(cfg)


def test_a_kill_before_the_last_validation_keeps_the_best(
    composed: Compose, scores: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`last.ckpt` is of the last step, at which nothing is trained any more."""
    scores |= {2: 0.2, 4: 0.3, 6: 0.5}
    cfg = composed(*FEW, *SIX)
    killed_in("on_validation_start", cfg, 6, monkeypatch)
    folder = Path(cfg.run_dir)
    last = saved(folder, "last.ckpt")
    assert (last["global_step"], saved(folder, "best.ckpt")["global_step"]) == (6, 4)
    run(composed(*FEW, *SIX, "ckpt_path=last"))
    best = saved(folder, "best.ckpt")
    assert best["global_step"] == 6 and weights_equal(best, last)
    validated = logged(folder, "val/stage4/mAP")["val/stage4/mAP"]
    assert validated == pytest.approx({1: 0.2, 3: 0.3, 5: 0.5})


def test_a_resumed_training_ends_with_the_same_best(
    composed: Compose, scores: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores |= {2: 0.9, 4: 0.2, 6: 0.5}
    every = "callbacks.checkpoint.every_n_train_steps=1"
    whole = composed(*FEW, *SIX, every, run="whole")
    expected = run(whole)
    cut = composed(*FEW, *SIX, every, run="cut")
    killed_in("on_train_batch_start", cut, 3, monkeypatch)
    metrics = run(composed(*FEW, *SIX, every, "ckpt_path=last", run="cut"))
    assert metrics == expected
    for name in ("best.ckpt", "last.ckpt"):
        assert weights_equal(saved(Path(whole.run_dir), name), saved(Path(cut.run_dir), name))
    assert saved(Path(cut.run_dir), "best.ckpt")["global_step"] == 2


def test_a_training_without_improvement_ends_and_stays_ended(
    composed: Compose, scores: dict[int, float], caplog: pytest.LogCaptureFixture
) -> None:
    scores |= {1: 0.5, 2: 0.4, 3: 0.4, 4: 0.9}
    overrides = (
        *FEW,
        *SIX,
        "callbacks.schedule.validations=6",
        "callbacks.early_stopping.patience=2",
    )
    cfg = composed(*overrides)
    caplog.set_level(logging.INFO)
    metrics = run(cfg)
    assert saved(Path(cfg.run_dir), "last.ckpt")["global_step"] == 3
    assert saved(Path(cfg.run_dir), "best.ckpt")["global_step"] == 1
    (ended,) = (r for r in caplog.records if "training ends at step 3" in r.getMessage())
    assert ended.levelno == logging.INFO
    assert run(composed(*overrides, "ckpt_path=last")) == metrics
    assert saved(Path(cfg.run_dir), "last.ckpt")["global_step"] == 3


def test_without_held_out_people_nothing_is_selected(composed: Compose) -> None:
    cfg = composed(*FEW, *SIX, "dataset.val_identities=auto", "callbacks.early_stopping.patience=1")
    run(cfg)
    assert not (Path(cfg.run_dir) / "checkpoints" / "best.ckpt").exists()
    assert saved(Path(cfg.run_dir), "last.ckpt")["global_step"] == 6


def test_thresholds_are_those_of_the_best_weights(
    composed: Compose, scores: dict[int, float]
) -> None:
    scores |= {2: 0.9, 4: 0.2, 6: 0.5}
    exits = "model.exits=[stage2,stage3,stage4]"
    cfg = composed(*FEW, *SIX, exits)
    run(cfg)
    best, last = (saved(Path(cfg.run_dir), name) for name in ("best.ckpt", "last.ckpt"))
    assert (best["global_step"], last["global_step"]) == (2, 6)
    assert str(best["callbacks"][KEY]) != str(last["callbacks"][KEY])


def test_the_preflight_changes_nothing(composed: Compose, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "reid_lab")
    ends = []
    for name, overrides in (("with", ()), ("without", ("callbacks.preflight=null",))):
        cfg = composed(*FEW, *SIX, *overrides, run=name)
        metrics = run(cfg)
        told = caplog.text
        caplog.clear()
        assert ("training: 6 steps of 2 x 2 images at 64x32, about" in told) == (name == "with")
        folder = Path(cfg.run_dir)
        ends.append((metrics, logged(folder, "train/loss"), saved(folder, "last.ckpt")))
    (metrics, losses, state), (metrics2, losses2, state2) = ends
    assert metrics == metrics2 and losses == losses2 and len(losses["train/loss"]) == 6
    assert weights_equal(state, state2) and torch.equal(state["rng_state"], state2["rng_state"])


def test_a_batch_that_does_not_fit_the_gpu_is_one_message(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Preflight, "measure", full)
    with pytest.raises(UserError, match=r"2 x 2 images at 64x32 do not fit .* dataset\.p"):
        run(composed(*FEW, *SIX))


@pytest.mark.parametrize(("seconds", "text"), [(90, "1.5 min"), (5400, "1.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
