"""The galleries that a protocol shows: the other cameras' images, a few of each person drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from reid_lab.protocol import Protocol
from reid_lab.retrieval.embeddings import Ids

Shown = tuple[Tensor, Tensor]  # rows of the queries, and of the gallery images that they see


def trials(query: Ids, gallery: Ids, protocol: Protocol) -> Iterator[list[Shown]]:
    """For each trial, groups of queries with the gallery that each group sees.

    Where a query's own camera is hidden, a group is a camera's queries. `shots` images of each
    person are drawn, for all queries of a group the same; distractors stay.
    """
    everyone = torch.arange(len(query)), torch.arange(len(gallery))
    groups = [everyone]
    if protocol.hidden == "same_camera" and len(query):
        groups = [
            ((query.camids == c).nonzero().flatten(), (gallery.camids != c).nonzero().flatten())
            for c in query.camids.unique()
        ]
    for trial in range(protocol.trials):
        rng = np.random.default_rng([protocol.seed, trial])
        yield [
            (rows, seen if protocol.shots is None else _draw(seen, gallery, protocol.shots, rng))
            for rows, seen in groups
        ]


def _draw(seen: Tensor, gallery: Ids, shots: int, rng: np.random.Generator) -> Tensor:
    """`shots` of each person's images among those seen, all of the nameless, ascending."""
    pids = gallery.pids[seen].numpy()
    order = np.lexsort([rng.random(len(pids)), pids])  # by person, shuffled within
    _, start, person = np.unique(pids[order], return_index=True, return_inverse=True)
    number = np.arange(len(pids)) - start[person.ravel()]
    kept = (number < shots) | (pids[order] <= 0)
    return seen[torch.from_numpy(np.sort(order[kept]))]
