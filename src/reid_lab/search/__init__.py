"""Hyper-parameters that move during training, by Bayesian optimisation (PLA, section 3.3).

`search.bayes` has the Gaussian process, by BoTorch; it is imported when it is needed.
"""

from reid_lab.search.schedule import Position, Schedule
from reid_lab.search.search import Search
from reid_lab.search.setting import Prediction, Ranges, Setting

__all__ = ["Position", "Schedule", "Prediction", "Ranges", "Search", "Setting"]
