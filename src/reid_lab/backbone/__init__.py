"""Networks with named stages."""

from reid_lab.backbone.densenet import DenseNet201
from reid_lab.backbone.mobilenet import MobileNet
from reid_lab.backbone.resnet import ResNet
from reid_lab.backbone.shufflenet import ShuffleNet
from reid_lab.backbone.small import SmallResNet
from reid_lab.backbone.stages import Backbone, WeightsError

__all__ = [
    "Backbone",
    "DenseNet201",
    "MobileNet",
    "ResNet",
    "ShuffleNet",
    "SmallResNet",
    "WeightsError",
]
