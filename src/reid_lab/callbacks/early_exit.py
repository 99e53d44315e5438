"""Thresholds for early exit, fitted after training and kept in the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from reid_lab.budget.exit_calibration import KEY, ExitCalibration, fit_exit_calibration
from reid_lab.budget.policies import TEMPERATURE, Candidates
from reid_lab.callbacks.after_ranking import ranking_of
from reid_lab.callbacks.embedding import embed_batches, processes_of
from reid_lab.callbacks.fitted import Change, FittedAfterTraining
from reid_lab.dataset import Split
from reid_lab.dataset.datamodule import data_of
from reid_lab.dataset.loading import ROLES
from reid_lab.dataset.splits import query_and_gallery
from reid_lab.model import ReidModule
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate
from reid_lab.types import Count, Positive, Role, Seed


class EarlyExitThresholds(FittedAfterTraining):
    """Fits thresholds to the confidence of each policy on held-out people; see exit_calibration.py.

    These are the people of `dataset.val_identities`; with 0, there are no thresholds, unless
    `identities` is given. The thresholds are added to the last checkpoint, from which a test reads
    them.

    Args:
        candidates, temperature: see `StreamCurve`.
        identities: number of training people to fit on if none are held out. On them the network
            is overconfident: too many queries exit early, and a warning is given. None fits on
            held-out people only.
        seed: random seed of the choice of people; None takes the data module's.
    """

    role: Role = "measurement"  # only the streams that ask for its thresholds depend on them
    needs_ranking = True

    def __init__(
        self,
        candidates: Candidates = "other_cameras",
        identities: Count | None = None,
        seed: Seed | None = None,
        temperature: Positive = TEMPERATURE,
    ) -> None:
        self.candidates, self.identities, self.seed = candidates, identities, seed
        self.temperature = temperature
        self.exit_calibration: ExitCalibration | None = None

    @property
    def state_key(self) -> str:
        return KEY

    def state_dict(self) -> dict[str, Any]:
        return self.exit_calibration.state() if self.exit_calibration else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.exit_calibration = ExitCalibration.of_state(state_dict)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        ranking_of(trainer, self)  # raises an error if it is missing
        if self.seed is None:
            self.seed = data_of(trainer).seed
        super().setup(trainer, pl_module, stage)

    def fit_on(self, best: Path) -> None:
        super().fit_on(best)
        self.exit_calibration = None  # it was of the last weights

    def on_train_batch_start(self, *_: Any) -> None:
        self.exit_calibration = None  # of the weights that a resumed training goes on from

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.fit_if_due(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # a training that was killed at its last step has no end when it is resumed
        if self.exit_calibration is None:
            self.fit_if_due(trainer, pl_module)

    def fit(self, trainer: pl.Trainer, module: ReidModule) -> Change | None:
        if len(module.stream_exits) < 2:
            return None  # one exit: nothing to decide
        self.exit_calibration = self._fitted(trainer, module)
        return self._put if self.exit_calibration else None

    def _put(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["callbacks"][KEY] = self.state_dict()

    def _fitted(self, trainer: pl.Trainer, module: ReidModule) -> ExitCalibration | None:
        data = data_of(trainer)
        held_out = data.val_identities > 0
        if not held_out and self.identities is None:
            return None
        loader: DataLoader[Any]
        if held_out:
            loader = data.held_out_loader()
            people = data.eval_split("val")
            rows = np.arange(len(people))
            is_query = data.roles("val") == ROLES.index("query")
        else:
            people = data.train_split
            rows, is_query = self._some(people, data.benchmark.protocol.tracklets)
            loader = data.train_images_loader(rows)
        if not is_query.any() or is_query.all():
            rank_zero_warn("early exit: too few people to fit thresholds on; none are kept")
            return None
        exits = embed_batches(loader, trainer, module)
        ids = Ids.of(people.take(rows))
        q, g = (torch.from_numpy(np.flatnonzero(part)) for part in (is_query, ~is_query))
        stored = {
            n: Exit(exits[n][q], exits[module.shared_exit or n][g], 0) for n in module.stream_exits
        }
        ranking = ranking_of(trainer, self)
        try:
            found = Embeddings(ids.take(q), ids.take(g), stored)
            evaluation = evaluate(
                found,
                ranking.metric,
                ranking.protocol(trainer),
                memory=ranking.memory,
                processes=processes_of(trainer),
            )
        except ValueError as error:
            rank_zero_warn(f"early exit: no thresholds are kept: {error}")
            return None
        if not held_out:
            rank_zero_warn(
                "early exit: thresholds are fitted on training people, on whom the network is "
                "overconfident; dataset.val_identities=N holds N people out for them"
            )
        options = (self.candidates, held_out, self.temperature)
        return fit_exit_calibration(evaluation, module.stream_exits, *options)

    def _some(self, train: Split, tracklets: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training images of some people, and (N,) bool whether each is a query."""
        rng = np.random.default_rng(self.seed or 0)
        some = rng.permutation(train.identities)[: self.identities]
        rows = np.flatnonzero(np.isin(train.pids, some))
        numbers = np.arange(len(rows)).astype(np.bytes_)
        query, _ = query_and_gallery(replace(train.take(rows), names=numbers), tracklets)
        return rows, np.isin(numbers, query.names)
