"""Bayesian optimisation of hyper-parameters during training (PLA, section 3.3).

`search.bayes`, the Gaussian process by BoTorch, is imported on first use.
"""

from reid_lab.search.schedule import Position, Schedule
from reid_lab.search.search import Search
from reid_lab.search.setting import Prediction, Ranges, Setting

__all__ = ["Position", "Schedule", "Prediction", "Ranges", "Search", "Setting"]
