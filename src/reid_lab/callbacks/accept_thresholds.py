"""Thresholds for false-accept rates, fitted on held-out people."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.callbacks.embedding import embed_batches
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


def fit_held_out_thresholds(
    trainer: pl.Trainer, module: ReidModule, seed: int
) -> AcceptThresholdsByExit:
    """Fit thresholds on the people of `dataset.val_identities`.

    Args:
        seed: random seed of the choice of queries, if there are more than `MOST_QUERIES`.

    Returns:
        Exit -> metric -> thresholds of searches and of pairs. Empty, with a warning, if there are
        too few people, or none with a match.
    """
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
