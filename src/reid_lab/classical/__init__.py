"""Methods without a network: LOMO and HSV features, KISSME and XQDA metrics."""

from reid_lab.classical.histogram import HsvHistogram
from reid_lab.classical.kissme import kissme
from reid_lab.classical.lomo import Lomo
from reid_lab.classical.pairs import PairsError, pair_counts
from reid_lab.classical.subspace import Subspace
from reid_lab.classical.xqda import xqda

__all__ = ["HsvHistogram", "Lomo", "PairsError", "Subspace", "kissme", "pair_counts", "xqda"]
