"""The overhead of early exit beside the network and the searches, measured by streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle
from math import ceil
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from reid_lab.budget.policies import Lookup
from reid_lab.budget.router import Indices
from reid_lab.budget.stopping import BudgetedStream
from reid_lab.budget.stream import HORIZON, RunningQuantile, exit_probabilities
from reid_lab.cost.account import Effort, Subject
from reid_lab.cost.currency import ExitCosts, Floats
from reid_lab.cost.latency import time_exits
from reid_lab.retrieval.embeddings import Ids

if TYPE_CHECKING:
    from reid_lab.model.base import ReidModule

MIN_BATCHES, MIN_QUERIES = 8, 64  # smallest numbers of batches and queries of a stream
IMAGES_PER_PERSON, CAMERAS = 20, 6  # sizes of a synthetic gallery


def measure_overhead(
    subject: Subject,
    lookups: Mapping[str, Lookup],
    network: Floats,
    matching: Floats,
    effort: Effort,
) -> float:
    """Milliseconds per query at each exit that it reaches; nan if none can exit early.

    Equal numbers of queries take each exit. They arrive one at a time, or `effort.batch` at a time
    and are merged. The overhead is the time of a stream beyond its stages and searches, which were
    measured in full batches: the median over the streams, at least 0.

    Args:
        lookups: exit -> its gallery.
        network: (S,) cumulative milliseconds up to each exit.
        matching: (S,) milliseconds of each search.
        effort: its `repeats` are the number of streams.
    """
    module = cast("ReidModule", subject.module)
    names = [name for name in getattr(module, "stream_exits", ()) if name in lookups]
    if len(names) < 2:
        return float("nan")
    totals = ExitCosts("latency", tuple(lookups), network, matching).select(names).totals(True)
    count = max(MIN_BATCHES, ceil(MIN_QUERIES / effort.batch)) * effort.batch
    query = cyclic_ids(count)
    # a few batches of images by turns: all of a stream could take gigabytes
    images = subject.images(ceil(MIN_QUERIES / effort.batch) * effort.batch)
    batches = zip(cycle(images.split(effort.batch)), torch.arange(count).split(effort.batch))
    parts = [(some, query.take(rows)) for some, rows in batches]
    galleries = {name: lookups[module.shared_exit or name] for name in names}
    even = exit_probabilities(np.full(len(names), 1 / len(names)))
    exits: list[Indices] = []

    def run(_: Tensor) -> Iterator[tuple[str, Tensor]]:
        rule = RunningQuantile(even, HORIZON)
        stream = BudgetedStream(module, galleries, "margin", rule, seed=len(exits))
        with subject.context():
            if effort.batch == 1:
                exits.append(np.concatenate([stream(*part).exits for part in parts]))
            else:
                exits.append(stream.merged(parts, effort.batch).exits)
        yield "stream", images

    seconds = time_exits(run, images, effort.repeats, effort.seconds)["stream"]
    more = [
        (1e3 * taken - totals[reached].sum()) / (reached + 1).sum()
        for taken, reached in zip(seconds, exits[-len(seconds) :], strict=True)
    ]
    return max(float(np.median(more)), 0.0)


def cyclic_ids(count: int) -> Ids:
    """Ids of people with about 20 images each, in 6 cameras, by turns."""
    number = torch.arange(count)
    people = max(2, ceil(count / IMAGES_PER_PERSON))
    turns = number % people + number // people
    paths = np.array([f"{i}.jpg" for i in range(count)], dtype=object)
    return Ids(number % people + 1, turns % CAMERAS, paths)
