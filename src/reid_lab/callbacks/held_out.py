"""Thresholds for false-accept rates, fitted on held-out people and kept in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.callbacks.embedding import embed_batches
from reid_lab.checkpoint import fingerprint_of, put_calibrations
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.openset.verdicts import Calibrations
from reid_lab.protocol import DISTRACTOR
from reid_lab.retrieval import Ids
from reid_lab.retrieval.accept_thresholds import FEWEST, HIDDEN, fit_thresholds
from reid_lab.retrieval.ranking import answerable
from reid_lab.retrieval.space import MetricName

METRICS: tuple[MetricName, ...] = ("euclidean", "cosine")  # of galleries
MOST = 2000  # queries


def keep_held_out_thresholds(
    trainer: pl.Trainer, module: ReidModule, best: Path | None, seed: int
) -> None:
    """Fit thresholds on the people of `dataset.val_identities`, and keep them in the checkpoint.

    With too few people, or none with a match, there are no thresholds but a warning.

    Args:
        best: checkpoint of the module's weights; None takes the last one.
        seed: random seed of the choice of queries, if there are more than `MOST`.
    """
    with torch.random.fork_rng(devices=[]):  # a resumed run draws the same numbers
        found = fit_held_out_thresholds(trainer, module, seed)
    if found and trainer.is_global_zero:
        key = fingerprint_of(module.state_dict(), module.hparams["model"])
        written = [getattr(c, "last_model_path", "") for c in trainer.checkpoint_callbacks]
        for path in {best} if best else {Path(each) for each in written if each}:
            if path.is_file():
                put_calibrations(path, found, key)
    trainer.strategy.barrier()


def fit_held_out_thresholds(trainer: pl.Trainer, module: ReidModule, seed: int) -> Calibrations:
    """Exit -> metric -> thresholds of searches and of pairs; empty with a warning."""
    data = data_of(trainer)
    exits = embed_batches(data.val_dataloader(), trainer, module)
    ids = Ids.of(data.eval_split("val"))
    images = np.sort(np.unique(ids.images.numpy(), return_index=True)[1])
    images = images[ids.pids.numpy()[images] >= DISTRACTOR]
    ids = ids.take(torch.from_numpy(images))
    if data.benchmark.protocol.hidden in ("itself", "nothing"):  # cameras hide nothing
        ids = Ids(ids.pids, torch.arange(len(ids)), ids.paths)
    named = np.flatnonzero(ids.pids.numpy() > DISTRACTOR)
    people = len(np.unique(ids.pids.numpy()[named]))
    query_rows = np.sort(np.random.default_rng(seed).permutation(named)[:MOST])
    query = ids.take(torch.from_numpy(query_rows))
    if people < FEWEST or not bool(answerable(query, ids, HIDDEN).any()):
        rank_zero_warn(
            f"verification: {people} held-out people (dataset.val_identities) are too few, or have "
            "no image from another camera: the checkpoint gets no thresholds for false-accept rates"
        )
        return {}
    source, found = f"{data.benchmark.name}, held out from training", Calibrations()
    for name in module.exit_names:
        if name not in module.exit_signs:  # a metric that no gallery is searched by
            names = name, module.shared_exit or name  # of the queries, of the gallery
            rows, others = (exits[n][torch.from_numpy(images)] for n in names)
            found[name] = {
                metric: fit_thresholds(rows[query_rows], others, query, ids, metric, source)
                for metric in METRICS
            }
    return found
