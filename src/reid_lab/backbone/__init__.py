"""Networks with named stages. A backbone is found by being in a module of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import WeightsError
from reid_lab.optional import concrete_classes

BACKBONES = concrete_classes(__name__, Backbone)  # name -> class; checkpoints may name no others
globals().update(BACKBONES)
__all__ = ["Backbone", "WeightsError"]
__all__ += BACKBONES

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
