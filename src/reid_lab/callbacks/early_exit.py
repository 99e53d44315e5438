"""Thresholds for leaving early, fitted after training and kept in the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import DataLoader, Subset

from reid_lab.budget.policies import Candidates
from reid_lab.budget.thresholds import KEY, Calibration, calibrate
from reid_lab.callbacks.after_ranking import ranking_of
from reid_lab.callbacks.training_images import embedded
from reid_lab.dataset import ReidDataModule, Split
from reid_lab.dataset.loading import RankSampler
from reid_lab.dataset.splits import query_and_gallery
from reid_lab.files.atomic import write_torch
from reid_lab.model import ReidModule
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate
from reid_lab.types import Count, Seed


class EarlyExitThresholds(pl.Callback):
    """At the end of training, how sure each policy is of held-out people; see thresholds.py.

    They are those of `dataset.val_identities`. With 0 they are training people, of whom the
    network is surer than of strangers: the thresholds let too many leave, and a warning says
    so. What was fitted is put into the last checkpoint; a test reads it back.

    Args:
        candidates: as callbacks.stream.candidates.
        identities: training people that are taken where none are held out.
        seed: draws them.
    """

    def __init__(
        self,
        candidates: Candidates = "other_cameras",
        identities: Count = 100,
        seed: Seed = 0,
    ) -> None:
        self.candidates, self.identities, self.seed = candidates, identities, seed
        self.calibration: Calibration | None = None
        self._due = False  # training has begun, and has not come to its end

    @property
    def state_key(self) -> str:
        return KEY

    def state_dict(self) -> dict[str, Any]:
        return self.calibration.state() if self.calibration else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.calibration = Calibration.of_state(state_dict)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        ranking_of(trainer, self)  # whether it is there
        self._due |= stage == "fit"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # a training that was killed at its last step has no end when it is resumed
        if self._due and self.calibration is None:
            self._fit(trainer, pl_module)

    def _fit(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._due = False
        module = cast(ReidModule, pl_module)
        if len(module.stream_exits) < 2:
            return  # one exit: there is nothing to choose
        with torch.random.fork_rng(devices=[]):  # a resumed run draws what this one would have
            self.calibration = self._fitted(trainer, module)
        if self.calibration is not None:
            _keep(self.state_dict(), trainer)

    def _fitted(self, trainer: pl.Trainer, module: ReidModule) -> Calibration | None:
        data = cast(ReidDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        held_out = data.val_identities > 0
        loader: DataLoader[Any]
        if held_out:
            query, gallery = data.splits("val")
            loader = data.val_dataloader()
            rows = np.arange(len(query) + len(gallery))
            is_query = rows < len(query)
            people = data.eval_split("val")
        else:
            people = data.train_split
            rows, is_query = self._some(people, data.benchmark.protocol.tracklets)
            loader = _of_rows(data.train_images_loader(), rows, trainer)
        if not is_query.any() or is_query.all():
            rank_zero_warn("early exit: too few people to fit thresholds on; none are kept")
            return None
        exits = embedded(loader, trainer, module)
        ids = Ids.of(people.take(rows))
        asks = torch.from_numpy(is_query)
        q, g = asks.nonzero().flatten(), (~asks).nonzero().flatten()
        stored = {n: Exit(exits[n][q], exits[n][g], 0) for n in module.stream_exits}
        ranking = ranking_of(trainer, self)
        try:
            found = Embeddings(ids.take(q), ids.take(g), stored)
            evaluation = evaluate(
                found, ranking.metric, ranking.protocol(trainer), memory=ranking.memory
            )
        except ValueError as error:
            rank_zero_warn(f"early exit: no thresholds are kept: {error}")
            return None
        if not held_out:
            rank_zero_warn(
                "early exit: thresholds are fitted on training people, who look too easy; "
                "dataset.val_identities=N holds N people out for them"
            )
        return calibrate(evaluation, module.stream_exits, self.candidates, held_out)

    def _some(self, train: Split, tracklets: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the training images of some people, and which of them ask."""
        rng = np.random.default_rng(self.seed)
        some = rng.permutation(train.identities)[: self.identities]
        rows = np.flatnonzero(np.isin(train.pids, some))
        numbers = np.arange(len(rows)).astype(np.bytes_)
        query, _ = query_and_gallery(replace(train.take(rows), names=numbers), tracklets)
        return rows, np.isin(numbers, query.names)


def _of_rows(loader: DataLoader[Any], rows: np.ndarray, trainer: pl.Trainer) -> DataLoader[Any]:
    """The same loader for some of its images; `index` stays the images' own."""
    images: Subset[Any] = Subset(loader.dataset, rows.tolist())
    sampler = RankSampler(len(rows), trainer.global_rank, trainer.world_size)
    return DataLoader(
        images, batch_size=loader.batch_size, sampler=sampler, collate_fn=loader.collate_fn
    )


def _keep(state: dict[str, Any], trainer: pl.Trainer) -> None:
    """Put what was fitted into the last checkpoint; one not written yet will have it anyway.

    All else in it stays: saved anew, now that the epoch counts as ended, a run would go on
    from it in another place.
    """
    for callback in trainer.checkpoint_callbacks:
        path = Path(getattr(callback, "last_model_path", ""))
        if not trainer.is_global_zero or not path.is_file():
            continue
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if checkpoint["global_step"] != trainer.global_step:
            continue  # of other weights
        checkpoint["callbacks"][KEY] = state
        write_torch(path, checkpoint)
    trainer.strategy.barrier()
