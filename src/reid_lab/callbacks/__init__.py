"""Thin Lightning wrappers around `retrieval` and `budget`."""

from reid_lab.callbacks.attention import AttentionMaps
from reid_lab.callbacks.budget import AnytimeCurve, BudgetError, StreamCurve
from reid_lab.callbacks.checkpoints import CheckpointFiles, Checkpoints, Deadline
from reid_lab.callbacks.conditions import ImageConditions
from reid_lab.callbacks.cost import CostAccount
from reid_lab.callbacks.cuda_graph import CudaGraph
from reid_lab.callbacks.dimensions import FeatureDimensions
from reid_lab.callbacks.early_exit import EarlyExitThresholds
from reid_lab.callbacks.elapsed import ElapsedTime
from reid_lab.callbacks.finetune import BestCheckpoint, ScheduleFromData, StopEarly
from reid_lab.callbacks.fused import FusedOptimizer
from reid_lab.callbacks.preflight import Preflight
from reid_lab.callbacks.progress import StepProgress
from reid_lab.callbacks.progressive import ProgressiveSearch, SearchError
from reid_lab.callbacks.ranked_lists import RankedLists
from reid_lab.callbacks.ranking import RankingError, RankingEvaluation
from reid_lab.callbacks.shared_space import SharedSpace
from reid_lab.callbacks.throughput import Throughput
from reid_lab.callbacks.verification import Verification, VerificationError

__all__ = [
    "AnytimeCurve",
    "AttentionMaps",
    "BestCheckpoint",
    "BudgetError",
    "StreamCurve",
    "CheckpointFiles",
    "Checkpoints",
    "CostAccount",
    "CudaGraph",
    "Deadline",
    "EarlyExitThresholds",
    "ElapsedTime",
    "FeatureDimensions",
    "FusedOptimizer",
    "ImageConditions",
    "Preflight",
    "ProgressiveSearch",
    "RankedLists",
    "RankingError",
    "RankingEvaluation",
    "ScheduleFromData",
    "SearchError",
    "SharedSpace",
    "StepProgress",
    "StopEarly",
    "Throughput",
    "Verification",
    "VerificationError",
]
