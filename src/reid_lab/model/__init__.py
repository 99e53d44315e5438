"""One LightningModule a paper."""

from reid_lab.model.base import ReidModule
from reid_lab.model.classifier import Classifier
from reid_lab.model.dare import DaRe
from reid_lab.model.distilled import Distilled
from reid_lab.model.han import HAN
from reid_lab.model.jlml import JLML
from reid_lab.model.lomo import LOMO
from reid_lab.model.pla import PLA
from reid_lab.model.se_resnets import SEResNets

__all__ = [
    "Classifier",
    "DaRe",
    "Distilled",
    "HAN",
    "JLML",
    "LOMO",
    "PLA",
    "ReidModule",
    "SEResNets",
]
