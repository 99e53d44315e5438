"""Weights and images that are the same wherever they are drawn: by key, from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


def drawn_weights(shapes: Shapes) -> dict[str, Tensor]:
    """A tensor for each key, from a generator that the key seeds; NumPy's legacy one, as its
    numbers are the same in all versions."""
    return {key: torch.from_numpy(_drawn(key, shape)) for key, shape in shapes.items()}


def _drawn(key: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.array(1)
    if key.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif len(shape) > 1:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    elif key.endswith("weight"):
        values = random.uniform(0.5, 1.5, shape)
    elif key.endswith(".p"):  # of GeM
        values = np.full(shape, 3.0)
    else:
        values = 0.2 * random.standard_normal(shape)
    return np.asarray(values, np.float32)


def drawn_images(height: int, width: int) -> Tensor:
    """Four images (4, 3, height, width), normalised."""
    random = np.random.RandomState(0)
    return torch.from_numpy(random.standard_normal((4, 3, height, width)).astype(np.float32))
