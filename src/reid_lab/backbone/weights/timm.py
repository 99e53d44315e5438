"""Import networks of timm; a state dict does not name its network."""

from __future__ import annotations

from reid_lab.backbone.weights.found import Choices, FoundWeights, Shapes

TOOLBOX = "timm"
LICENCE = "Apache-2.0 (timm's code)"


def find(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    """The timm network that was named, or a hint to name it; None if the keys are not timm's."""
    return None
