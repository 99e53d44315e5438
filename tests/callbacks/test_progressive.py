"""Algorithm 1 on miniature people: what is restored, what is seen, and that it goes on."""

from __future__ import annotations

import math
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from reid_lab.callbacks import ProgressiveSearch, SearchError
from reid_lab.callbacks.progressive import restore, snapshot
from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.config.choices import conf_dir
from reid_lab.config.paths import last_checkpoint, register_resolvers
from reid_lab.errors import UserError
from reid_lab.model import PLA, ReidModule
from reid_lab.model.base import DivergedError
from reid_lab.run.run import prepare_torch
from reid_lab.search import Ranges
from tests.conftest import SMALL, Compose

# an epoch of 2 batches: 2 and 3 explorations of 4 batches, exploitations of 6
SHORT = (
    "model=pla",
    "callbacks=progressive",
    "backbone=small",
    "backbone.width=4",
    "model.dim=8",
    "dataset.p=3",
    "dataset.k=4",
    "trainer.max_steps=-1",
    "+trainer.max_epochs=-1",
    "+trainer.limit_test_batches=0",
    "trainer.val_check_interval=1000",
    "callbacks.ranking=null",
    "callbacks.exit_thresholds=null",
    "callbacks.cost=null",
    "callbacks.anytime=null",
    "callbacks.stream=null",
    "callbacks.verification=null",
    "callbacks.dimensions=null",
    "callbacks.ranked_lists=null",
    "callbacks.conditions=null",
    "callbacks.attention=null",
    "callbacks.checkpoint.every_n_train_steps=1",
    "callbacks.progressive.rounds=2",
    "callbacks.progressive.settings=2",
    "callbacks.progressive.explore_epochs=2",
    "callbacks.progressive.exploit_epochs=3",
    "callbacks.progressive.candidates=20",
    "callbacks.progressive.epoch=2",
)
TOTAL = 2 * 4 + 6 + 3 * 4 + 6
# first batch of each phase, exploitations marked
PHASES = {0: False, 4: False, 8: True, 14: False, 18: False, 22: False, 26: True}


class Watch(pl.Callback):
    """Every batch as it starts: what the network is, and what it is shown."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        state = snapshot(trainer)
        setting = (pl_module.triplet_weight, pl_module.loss.margin, *pl_module.ks, pl_module.loss.p)
        rate = pl_module.schedule(trainer.global_step)
        shown = {name: tensor.clone() for name, tensor in batch.items()}
        self.seen.append({**state, "batch": shown, "setting": setting, "rate": rate})


def train(cfg: DictConfig, *more: pl.Callback, ckpt: Path | None = None) -> pl.Trainer:
    prepare_torch(cfg)
    trainer = build_trainer(cfg)
    trainer.callbacks.extend(more)  # type: ignore[attr-defined]
    data = build_data(cfg)
    model = build_model(cfg, data.identities)
    trainer.fit(model, data, ckpt_path=ckpt, weights_only=True)
    return trainer


def same(one: Any, two: Any) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def without_rates(optimizer: dict[str, Any]) -> dict[str, Any]:
    """Adam's moments; the rate is set anew at every step."""
    return optimizer["state"]


def test_ranges_end_at_the_batches_size() -> None:
    """PLA, section 4.2: K = 8, P = 16, k in [1, 8], p in [1, 16]."""
    assert ProgressiveSearch().ranges_of(8, 16) == Ranges(k=(1, 8), p=(1, 16))
    assert ProgressiveSearch(k=(2, 3), p=(9, None)).ranges_of(8, 4).p == (9, 9)  # refused later
    with pytest.raises(ValueError, match=r"k=\[3, 2\]: expected \[lowest, highest\]"):
        ProgressiveSearch(k=(3, 2))


STOPS = (3, 8, 11, 14, 20)  # within and between phases, and within an epoch


class Keep(pl.Callback):
    """What a run that is killed after one of `STOPS` leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step in STOPS:
            copy(last_checkpoint(self.folder), self.folder / f"{trainer.global_step}.ckpt")


@pytest.fixture(scope="module")
def watched(
    people: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Watch, pl.Trainer, Path]:
    register_resolvers()
    folder, watch = tmp_path_factory.mktemp("whole"), Watch()
    places = ("name=test", f"run_dir={folder}", f"dataset.root={people}", "dataset.recipe=null")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[*SMALL, *SHORT, *places])
    return watch, train(cfg, watch, Keep(folder)), folder


def test_a_search_restores_what_it_explored_from(
    watched: tuple[Watch, pl.Trainer, Path],
) -> None:
    watch, trainer, folder = watched
    seen = watch.seen
    assert len(seen) == trainer.global_step == TOTAL
    for first, others in ((0, (4, 8)), (14, (18, 22, 26))):
        for other in others:
            for step in range(4):  # the same data, at the same rate
                one, two = seen[first + step], seen[other + step]
                assert same(one["batch"], two["batch"])
                assert one["rate"] == two["rate"]
            start, again = seen[first], seen[other]
            assert same(start["model"], again["model"])  # batch norm statistics among it
            assert same(without_rates(start["optimizer"]), without_rates(again["optimizer"]))
            assert same(start["rng_state"], again["rng_state"])
            assert not same(start["model"], seen[other - 1]["model"])
    # later batches are new ones
    starts = [seen[t]["batch"]["image"] for t in (0, 1, 2, 3, 12, 13, 14, 15, 30, 31)]
    assert len({float(image.sum()) for image in starts}) == len(starts)


def test_every_phase_has_its_setting_and_the_last_weights_are_saved(
    watched: tuple[Watch, pl.Trainer, Path],
) -> None:
    watch, trainer, folder = watched
    callback = next(c for c in trainer.callbacks if isinstance(c, ProgressiveSearch))  # type: ignore[attr-defined]
    trials = callback.search.trials
    for first, trial in zip(PHASES, trials, strict=True):
        expected = (trial.weight, trial.margin, trial.k, trial.p)
        assert watch.seen[first]["setting"] == expected
        assert PHASES[first] == (trial.phase == "exploit")
    assert len({t.weight for t in trials[:3]}) == 3
    saved = torch.load(last_checkpoint(folder), weights_only=True)
    assert same(saved["state_dict"], dict(trainer.lightning_module.state_dict()))


def test_the_best_epoch_is_that_of_the_lowest_loss(composed: Compose) -> None:
    """Losses made up: the second of three epochs is the best."""
    made_up = iter([3.0] * 8 + [3, 3, 1, 1, 2, 2] + [3.0] * 12 + [1, 1, 2, 2, 3, 3])

    class MakeUp(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
            outputs["loss"] = torch.tensor(float(next(made_up)))

    cfg, watch = composed(*SHORT), Watch()
    prepare_torch(cfg)
    trainer = build_trainer(cfg)
    trainer.callbacks[:0] = [MakeUp(), watch]  # type: ignore[attr-defined]
    data = build_data(cfg)
    model = build_model(cfg, data.identities)
    trainer.fit(model, data)
    assert same(watch.seen[14]["model"], watch.seen[12]["model"])
    assert not same(watch.seen[14]["model"], watch.seen[10]["model"])
    assert same(dict(model.state_dict()), watch.seen[28]["model"])


@pytest.mark.system
@pytest.mark.parametrize("stop", STOPS)
def test_killed_and_resumed_it_ends_the_same(
    composed: Compose, watched: tuple[Watch, pl.Trainer, Path], stop: int
) -> None:
    _, _, whole = watched
    cfg = composed(*SHORT)
    trainer = train(cfg, ckpt=whole / f"{stop}.ckpt")
    assert trainer.global_step == TOTAL
    resumed, name = Path(cfg.run_dir), "results/search.csv"
    assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    one, two = (torch.load(last_checkpoint(f), weights_only=True) for f in (whole, resumed))
    for key in ("state_dict", "optimizer_states", "global_step"):
        assert same(one[key], two[key]), key


def test_a_snapshot_stays_as_it_is(composed: Compose) -> None:
    taken: list[Any] = []

    class Take(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                taken.extend([snapshot(trainer), snapshot(trainer)])
                restore(trainer, taken[0])

    train(composed(*SHORT, "callbacks.progressive=null", "trainer.max_steps=5"), Take())
    assert same(*taken)


def test_other_methods_have_nothing_to_search(composed: Compose) -> None:
    cfg = composed("callbacks=progressive", "backbone=small", "trainer.max_steps=1")
    with pytest.raises(SearchError, match="DaRe has no settings to search"):
        train(cfg)


def test_cross_entropy_alone_has_nothing_to_search(composed: Compose) -> None:
    with pytest.raises(SearchError, match=r"objective has no triplet loss.*both or triplet"):
        train(composed(*SHORT, "model.objective=cross_entropy"))


def test_triplets_alone_have_no_lambda(composed: Compose) -> None:
    """It would scale the whole loss."""
    trainer = train(composed(*SHORT, "model.objective=triplet", "callbacks.progressive.rounds=1"))
    (search,) = [c for c in trainer.callbacks if isinstance(c, ProgressiveSearch)]  # type: ignore[attr-defined]
    trials = search.search.trials
    assert {t.weight for t in trials} == {1.0}
    assert len({t.margin for t in trials}) == len(trials) == 3


def test_random_settings_are_not_explored(composed: Compose) -> None:
    """Ranges of single values: a fixed setting in the rounds of a search."""
    fixed = ("triplet_weight=[1,1]", "margin=[0,0]", "k=[2,2]", "p=[1,1]")
    options = [f"callbacks.progressive.{option}" for option in ("choose=random", *fixed)]
    trainer = train(composed(*SHORT, *options))
    (search,) = [c for c in trainer.callbacks if isinstance(c, ProgressiveSearch)]  # type: ignore[attr-defined]
    assert trainer.global_step == 2 * 6
    assert [(t.phase, t.weight, t.k) for t in search.search.trials] == [("exploit", 1.0, 2)] * 2
    with pytest.raises(SearchError, match="nothing is left to search"):
        train(composed(*SHORT, *options[1:]))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("k=[1,5]", r"callbacks\.progressive\.k=5, but a person has dataset\.k=4 images"),
        ("p=[1,9]", r"callbacks\.progressive\.p=9, but an anchor has 8 negatives"),
        ("margin=[0.3,-0.1]", r"margin=\[0\.3, -0\.1\]: expected \[lowest, highest\]"),
    ],
)
def test_ranges_are_reported_before_training(composed: Compose, option: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(composed(*SHORT, f"callbacks.progressive.{option}"))


@pytest.mark.parametrize("bad", [[1], [0, 1]])
def test_an_exploration_that_diverges_is_a_trial_that_failed(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, bad: list[int]
) -> None:
    """It costs nothing but its objective; an exploitation, or too few trials, end the search."""
    few = ("callbacks.progressive.rounds=1", "callbacks.progressive.settings=3")
    cfg = composed(*SHORT, *few)
    take = ReidModule.losses
    weights: dict[int, Any] = {}

    def diverging(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        phase, step = divmod(model.global_step, 4)
        weights[model.global_step] = torch.cat([w.flatten() for w in model.parameters()])
        factor = torch.nan if phase in bad and step == 1 else 1.0
        return {name: factor * value for name, value in take(model, batch).items()}

    monkeypatch.setattr(PLA, "losses", diverging)
    if len(bad) > 1:
        with pytest.raises(SearchError, match="1 of 3 explorations have a finite loss"):
            train(cfg)
        return
    trainer = train(cfg)
    assert trainer.global_step == 3 * 4 + 6
    assert all(bool(values.isfinite().all()) for values in weights.values())
    (search,) = [c for c in trainer.callbacks if isinstance(c, ProgressiveSearch)]  # type: ignore[attr-defined]
    assert [math.isfinite(t.loss) for t in search.search.trials] == [True, False, True, True]
    assert [math.isfinite(t.objective) for t in search.search.trials] == [True, False, True, True]


def test_an_exploitation_that_diverges_ends_the_training(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = PLA.losses

    def diverging(model: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        factor = torch.nan if model.global_step == 9 else 1.0
        return {name: factor * value for name, value in take(model, batch).items()}

    monkeypatch.setattr(PLA, "losses", diverging)
    with pytest.raises(DivergedError, match="the loss is nan"):
        train(composed(*SHORT, "callbacks.progressive.rounds=1"))
