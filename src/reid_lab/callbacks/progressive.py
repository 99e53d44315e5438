"""PLA's progressive learning: explore settings, go back, exploit the best. Algorithm 1."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, astuple, replace
from math import isfinite, nan
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import pytorch_lightning as pl
import torch
from annotated_types import Ge, Le

from reid_lab.compat.lightning import set_max_steps
from reid_lab.dataset.datamodule import data_of
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.model.pla import check_hardness
from reid_lab.model.random_state import CPU, random_state, set_random_state
from reid_lab.results import RESULTS
from reid_lab.results.rows.search import SEARCH
from reid_lab.search import Position, Ranges, Schedule, Search, Setting
from reid_lab.types import BatchSize, Count, Fraction, Margin, NonNegative, Role, Seed

Several = Annotated[int, Ge(2), Le(10_000)]
Low = TypeVar("Low", int, float)
High = TypeVar("High", int, float, "int | None")


class SearchError(UserError):
    """A search that cannot be run."""


@runtime_checkable
class Progressive(Protocol):
    """A method whose loss settings may change in training, if it is `searchable`.

    `fixed`: settings that have no effect, and their values.
    """

    @property
    def searchable(self) -> bool: ...

    @property
    def fixed(self) -> dict[str, float]: ...

    def begin(self, setting: Setting, start: int, length: int) -> None: ...


class ProgressiveSearch(pl.Callback):
    """Runs algorithm 1; a batch depends only on its number and on the losses before it.

    All explorations of a round, and its exploitation, start from the same weights, optimiser state,
    batch norm statistics, random state and batches. The exploitation ends with the state of its
    best epoch. An exploration whose loss is not finite counts as a failed trial, and the round
    continues from those weights; in an exploitation it ends the training. A checkpoint holds the
    whole state. Each trial is logged and written to `results/search.csv`.

    The training has the length of the schedule if `trainer.max_steps` is -1; another number cuts
    it.

    Args:
        rounds: number of rounds; section 3.3: 3,000 epochs of exploitation in all, M.
        settings: N, settings of the first round; the paper does not give it.
        explore_epochs: length of an exploration.
        exploit_epochs: length of an exploitation.
        expected_drop: expected drop of the loss between the halves of an exploration, equation 9.
        candidates: settings drawn in each round, of which expected improvement selects one.
        choose: `random` exploits a setting drawn at random in each round, without explorations:
            the baseline of the search.
        triplet_weight: range of lambda, the weight of the triplet loss. It is 1 where a method's
            triplet loss is alone (`Progressive.fixed`).
        margin: range of m.
        k: range of k; None takes the data module's K as the end.
        p: range of p; None takes the data module's P as the end.
        epoch: batches per epoch; None takes the PK sampler's.
        seed: random seed of the settings; None takes the data module's.

    Raises:
        ValueError: a range whose lowest value is above its highest.
        SearchError: a method without settings, or an objective without triplets.
        SettingError: a range beyond the size of PK batches; before the first batch.
    """

    role: Role = "training"
    renamed = {"weight": "triplet_weight"}

    def __init__(
        self,
        rounds: Count = 10,
        settings: Several = 10,
        explore_epochs: Several = 20,
        exploit_epochs: Count = 300,
        expected_drop: Fraction = 0.15,
        candidates: BatchSize = 1000,
        choose: Literal["improvement", "random"] = "improvement",
        triplet_weight: tuple[NonNegative, NonNegative] = (0.0, 2.0),
        margin: tuple[Margin, Margin] = (-0.1, 0.3),
        k: tuple[Count, Count | None] = (1, None),
        p: tuple[Count, Count | None] = (1, None),
        epoch: Count | None = None,
        seed: Seed | None = None,
    ) -> None:
        self.limits = (_pair(triplet_weight), _pair(margin), _pair(k), _pair(p))
        self.ranges_of(1, 1)  # raises an error if one is empty
        self.lengths = (rounds, settings, explore_epochs, exploit_epochs)
        self.expected_drop, self.candidates = expected_drop, candidates
        self.exploring = choose == "improvement"
        self.epoch, self.seed = epoch, seed
        self.ranges = Ranges()  # until setup knows the batches
        self.start: dict[str, Any] = {}  # of the round
        self.best: dict[str, Any] = {}  # epoch of the exploitation
        self._search: Search | None = None
        self._loaded: dict[str, Any] | None = None

    def ranges_of(self, batch_k: int, batch_p: int) -> Ranges:
        """The ranges in batches of `batch_p` identities with `batch_k` images each."""
        weight, margin, (low_k, k), (low_p, p) = self.limits
        return Ranges(
            weight,
            margin,
            (low_k, max(low_k, batch_k) if k is None else k),
            (low_p, max(low_p, batch_p) if p is None else p),
        )

    @property
    def search(self) -> Search:
        assert self._search is not None, "known when the training starts"
        return self._search

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if not isinstance(pl_module, Progressive):
            raise SearchError(
                f"callbacks.progressive: {type(pl_module).__name__} has no settings to search; use "
                "model=pla, or callbacks=default"
            )
        if not pl_module.searchable:
            raise SearchError(
                "callbacks.progressive: model.objective has no triplet loss, and so no settings "
                "to search; use model.objective=both or triplet, or callbacks=default"
            )
        data = data_of(trainer)
        self.seed = data.seed if self.seed is None else self.seed
        fixed: dict[str, Any] = {name: (v, v) for name, v in pl_module.fixed.items()}
        self.ranges = replace(self.ranges_of(data.k, data.p), **fixed)
        if self.exploring and all(low == high for low, high in astuple(self.ranges)):
            raise SearchError(
                "callbacks.progressive: triplet_weight, margin, k and p are fixed, and nothing is "
                "left to search; widen a range, or use choose=random"
            )
        check_hardness("callbacks.progressive", self.ranges.k[1], self.ranges.p[1], data)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = self.epoch or int(trainer.num_training_batches)
        schedule = Schedule(*self.lengths, epoch=epoch, exploring=self.exploring)
        options = (self.expected_drop, self.candidates, self.seed or 0)
        self._search = Search(schedule, self.ranges, *options)
        if self._loaded is not None:
            self._search.load_state_dict(self._loaded)
            self._loaded = None
        trainer.train_dataloader.batch_sampler.order = schedule.data  # type: ignore[union-attr]
        if trainer.max_steps == -1:
            set_max_steps(trainer, schedule.total)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        position = self._position(trainer, batch_idx)
        length = self.search.schedule.exploit * self.search.schedule.epoch
        cast(Progressive, pl_module).begin(self.search.setting(position), position.start, length)
        if not self.start:
            self.start = snapshot(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        search, position = self.search, self._position(trainer, batch_idx)
        module = cast(ReidModule, pl_module)
        if not position.exploiting and module.diverged():
            search.add(nan)  # a failed trial, left out of the Gaussian process
            restore(trainer, self.start)
            module.forget_loss()
        else:
            search.add(float(outputs["loss"]))
        if (position.step + 1) % search.schedule.epoch:
            return
        mean = trainer.strategy.reduce(torch.tensor(search.mean, device=pl_module.device))
        lowest = search.end_epoch(float(mean))
        if lowest and position.exploiting:
            self.best = snapshot(trainer)
        if position.last:
            self._end_phase(trainer, position)

    def _end_phase(self, trainer: pl.Trainer, position: Position) -> None:
        try:
            self.search.end_phase(position)
        except ValueError as error:  # too few settings whose loss stayed finite
            raise SearchError(f"callbacks.progressive: {error}") from error
        # rank 0 chooses, should processes differ in the last digit
        self.search.load_state_dict(trainer.strategy.broadcast(self.search.state_dict()))
        if position.exploiting:
            self.start, self.best = self.best, {}
        restore(trainer, self.start)
        self._log(trainer)

    def _log(self, trainer: pl.Trainer) -> None:
        """Write all trials to `search.csv`, and the last finished one to the loggers."""
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir) / RESULTS
            SEARCH.write(folder / SEARCH.file, self.search.trials)
        done = [asdict(trial) for trial in self.search.trials if isfinite(trial.loss)][-1:]
        values = {f"search/{name}": v for row in done for name, v in row.items() if name != "phase"}
        for logger in trainer.loggers:
            logger.log_metrics(
                {name: v for name, v in values.items() if isfinite(v)}, trainer.global_step - 1
            )

    def _position(self, trainer: pl.Trainer, batch_idx: int) -> Position:
        batches = int(trainer.num_training_batches)
        return self.search.schedule.at(trainer.current_epoch * batches + batch_idx)

    def state_dict(self) -> dict[str, Any]:
        if self._search is None:
            return {}
        return {"search": self._search.state_dict(), "start": self.start, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict.get("search")
        self.start, self.best = state_dict.get("start", {}), state_dict.get("best", {})


def _pair(values: tuple[Low, High]) -> tuple[Low, High]:
    """A config's list as a tuple."""
    low, high = values
    return low, high


def snapshot(trainer: pl.Trainer) -> dict[str, Any]:
    """Copies of weights, batch norm statistics, optimiser and scaler state, and random state."""
    state = {
        "model": trainer.lightning_module.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "precision": trainer.precision_plugin.state_dict(),
        **random_state(trainer.lightning_module.device),
    }
    return deepcopy(state)


def restore(trainer: pl.Trainer, state: dict[str, Any]) -> None:
    """Go back to a snapshot, which is not changed."""
    trainer.lightning_module.load_state_dict(state["model"])
    # an optimiser keeps references to the tensors
    trainer.optimizers[0].load_state_dict(deepcopy(state["optimizer"]))
    trainer.precision_plugin.load_state_dict(state["precision"])
    # older checkpoints call the CPU's state rng
    set_random_state({CPU: state.get("rng"), **state}, trainer.lightning_module.device)
