"""One LightningModule per paper. Methods are found by being in a module of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reid_lab.model.base import ReidModule
from reid_lab.optional import concrete_classes

METHODS = concrete_classes(__name__, ReidModule)  # name -> class; checkpoints may name no others
globals().update(METHODS)
__all__ = ["ReidModule"]
__all__ += METHODS

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
