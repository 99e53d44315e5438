"""Thresholds for false-accept rates, fitted on held-out people and kept in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.callbacks.embedding import embed_batches
from reid_lab.checkpoint import fingerprint_of, put_accept_thresholds
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.openset.thresholds import AcceptThresholdsByExit
from reid_lab.protocol import DISTRACTOR
from reid_lab.retrieval import Ids
from reid_lab.retrieval.accept_thresholds import fit_accept_thresholds, fitting_rows
from reid_lab.retrieval.checks import NoMatchError
from reid_lab.retrieval.open_set import TooFewPeopleError
from reid_lab.retrieval.space import MetricName

METRICS: tuple[MetricName, ...] = ("euclidean", "cosine")  # metrics of galleries


def keep_held_out_thresholds(
    trainer: pl.Trainer, module: ReidModule, best: Path | None, seed: int
) -> None:
    """Fit thresholds on the people of `dataset.val_identities`, and keep them in the checkpoint.

    With too few people, or none with a match, there are no thresholds but a warning.

    Args:
        best: checkpoint of the module's weights; None takes the last one.
        seed: random seed of the choice of queries, if there are more than `MOST_QUERIES`.
    """
    with torch.random.fork_rng(devices=[]):  # a resumed run draws the same numbers
        found = fit_held_out_thresholds(trainer, module, seed)
    if found and trainer.is_global_zero:
        key = fingerprint_of(module.state_dict(), module.hparams["model"])
        written = [getattr(c, "last_model_path", "") for c in trainer.checkpoint_callbacks]
        for path in {best} if best else {Path(each) for each in written if each}:
            if path.is_file():
                put_accept_thresholds(path, found, key)
    trainer.strategy.barrier()


def fit_held_out_thresholds(
    trainer: pl.Trainer, module: ReidModule, seed: int
) -> AcceptThresholdsByExit:
    """Exit -> metric -> thresholds of searches and of pairs; empty with a warning."""
    data = data_of(trainer)
    exits = embed_batches(data.held_out_loader(), trainer, module)
    ids = Ids.of(data.eval_split("val"))
    images = np.sort(np.unique(ids.images.numpy(), return_index=True)[1])
    images = images[ids.pids.numpy()[images] >= DISTRACTOR]
    ids = ids.take(torch.from_numpy(images))
    if data.benchmark.protocol.hidden in ("itself", "nothing"):  # cameras hide nothing
        ids = Ids(ids.pids, torch.arange(len(ids)), ids.paths)
    try:
        query_rows, _ = fitting_rows(ids, seed=seed)
    except (TooFewPeopleError, NoMatchError) as error:
        rank_zero_warn(
            f"verification: {error} (dataset.val_identities): the checkpoint gets no thresholds "
            "for false-accept rates"
        )
        return {}
    query = ids.take(query_rows)
    source, found = f"{data.benchmark.name}, held out from training", AcceptThresholdsByExit()
    for name in module.exit_names:
        if name not in module.exit_signs:  # a metric that no gallery is searched by
            names = name, module.shared_exit or name  # of the queries, of the gallery
            rows, others = (exits[n][torch.from_numpy(images)] for n in names)
            found[name] = {
                metric: fit_accept_thresholds(rows[query_rows], others, query, ids, metric, source)
                for metric in METRICS
            }
    return found
