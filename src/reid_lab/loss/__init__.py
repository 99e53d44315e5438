"""Losses: pure functions and, for configs, modules."""

from reid_lab.loss.triplet import (
    BatchHardTriplet,
    GeneralisedBatchHard,
    batch_hard,
    generalised_batch_hard,
    pairwise_distances,
)

__all__ = [
    "BatchHardTriplet",
    "GeneralisedBatchHard",
    "batch_hard",
    "generalised_batch_hard",
    "pairwise_distances",
]
