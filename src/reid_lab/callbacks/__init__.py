"""Thin Lightning shells over `retrieval` and `budget`."""

from reid_lab.callbacks.attention import AttentionMaps
from reid_lab.callbacks.budget import AnytimeCurve, BudgetedStream, BudgetError
from reid_lab.callbacks.dimensions import FeatureDimensions
from reid_lab.callbacks.progress import StepProgress
from reid_lab.callbacks.ranked_lists import RankedLists
from reid_lab.callbacks.ranking import RankingError, RankingEvaluation
from reid_lab.callbacks.throughput import Throughput
from reid_lab.callbacks.verification import Verification, VerificationError

__all__ = [
    "AnytimeCurve",
    "AttentionMaps",
    "BudgetError",
    "BudgetedStream",
    "FeatureDimensions",
    "RankedLists",
    "RankingError",
    "RankingEvaluation",
    "StepProgress",
    "Throughput",
    "Verification",
    "VerificationError",
]
