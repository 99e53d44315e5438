"""Losses: pure functions, each with a module for the configs."""

from reid_lab.loss.triplet import BatchHardTriplet, batch_hard, pairwise_distances

__all__ = ["BatchHardTriplet", "batch_hard", "pairwise_distances"]
