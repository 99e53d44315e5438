"""The golden file: networks of other toolboxes with drawn weights, and their embeddings."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.backbone.weights.drawn import Shapes, drawn_weights

GOLDEN = Path(__file__).with_name("golden.npz")


@cache
def networks() -> dict[str, Shapes]:
    """Name -> the shapes of its tensors by their names there."""
    with np.load(GOLDEN) as file:
        shapes = json.loads(str(file["shapes"]))
    return {name: {k: tuple(v) for k, v in own.items()} for name, own in shapes.items()}


def state_of(name: str) -> dict[str, Tensor]:
    return drawn_weights(networks()[name])


def embeddings_of(name: str) -> Tensor:
    """(4, D), of `drawn_images`."""
    with np.load(GOLDEN) as file:
        return torch.from_numpy(file[name])
