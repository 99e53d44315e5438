"""Cameras: viewpoint, light, and the degradation of the image (colour, resolution, noise)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_lab.dataset.synthetic.draw import Floats, Light, Pixels
from reid_lab.dataset.synthetic.keys import Domain, stream


@dataclass(frozen=True)
class Camera:
    """A camera. Angles in radians, distance in body heights; gains are factors."""

    pitch: float  # downward angle of view
    distance: float
    path: float  # direction of the path that most people walk along, either way
    gains: tuple[float, float, float]
    exposure: float
    gamma: float
    saturation: float
    detail: float  # fraction of the resolution that is kept
    noise: float  # standard deviation in grey levels
    quality: int  # of the JPEG
    light: Light


@lru_cache(maxsize=64)
def camera(seed: int, camid: int) -> Camera:
    """Draw camera `camid` (from 1) of a data set with this seed."""
    rng = stream(seed, Domain.CAMERA, camid)
    warmth = float(rng.uniform(-1, 1))
    tint = float(rng.uniform(-0.06, 0.06))
    sideways = float(rng.choice([-1, 1])) * float(rng.uniform(0.3, 0.8))
    return Camera(
        pitch=radians(float(rng.uniform(3, 30))),
        distance=float(rng.uniform(2.5, 6)),
        path=radians(float(rng.uniform(-90, 90))),
        gains=(1 + 0.04 * warmth, 1.0 + 0.2 * tint, 1 - 0.04 * warmth),
        exposure=float(rng.uniform(0.93, 1.07)),
        gamma=float(rng.uniform(0.94, 1.08)),
        saturation=float(rng.uniform(0.88, 1.06)),
        detail=float(rng.uniform(0.62, 1.0)),
        noise=float(rng.uniform(1.0, 5.0)),
        quality=int(rng.integers(70, 93)),
        light=Light((sideways, -0.5, 0.75), float(rng.uniform(0.25, 0.5))),
    )


def project(view: Camera, points: Floats, heading: float) -> tuple[Floats, Floats]:
    """Project points from a person's frame to the camera's.

    Args:
        points: (n, 3), (left, up, forward) of the person, in body heights.
        heading: direction that the person faces, in radians; 0 is towards the camera.

    Returns:
        (n, 3) (right, down, towards the camera) in body heights, relative to the waist, and
        (n,) the magnification by perspective.
    """
    left, up, forward = points[:, 0], points[:, 1] - 0.5, points[:, 2]
    right = left * cos(heading) + forward * sin(heading)
    near = forward * cos(heading) - left * sin(heading)
    depth = near * cos(view.pitch) + up * sin(view.pitch)
    down = near * sin(view.pitch) - up * cos(view.pitch)
    size = view.distance / (view.distance - depth)
    return np.stack([right * size, down * size, depth], axis=1).astype(np.float32), size


def degrade(view: Camera, image: Floats, rng: np.random.Generator) -> Pixels:
    """Apply the camera's colour, resolution and noise to a clean image.

    Args:
        image: (3, h, w) float, 0 to 255.

    Returns:
        (h, w, 3) uint8.
    """
    height, width = image.shape[1:]
    exposure = view.exposure * float(rng.uniform(0.93, 1.08))  # automatic exposure varies
    warmth = float(rng.normal(0, 0.02))
    balance = np.asarray((1 + warmth, 1 + float(rng.normal(0, 0.01)), 1 - warmth), np.float32)
    gains = np.asarray(view.gains, np.float32) * balance * np.float32(exposure)
    matrix = (_saturating(view.saturation) * gains).astype(np.float32)
    slope = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(rng.uniform(-0.1, 0.1)) + 1
    seen = (matrix.T @ image.reshape(3, -1)).reshape(image.shape) * slope
    index = np.minimum(np.maximum(seen, 0), np.float32(255)).astype(np.uint8)
    index = np.ascontiguousarray(index.transpose(1, 2, 0))
    toned = Image.fromarray(_tone(view.gamma)[index])
    detail = view.detail * float(rng.uniform(0.8, 1.0))
    if detail < 0.95:
        small = (max(8, round(width * detail)), max(16, round(height * detail)))
        toned = toned.resize(small, Image.Resampling.BILINEAR)
        toned = toned.resize((width, height), Image.Resampling.BILINEAR)
    noise = _noise(view.noise, height, width)
    y, x = (int(rng.integers(0, side)) for side in (height, width))
    noisy = np.asarray(toned, np.int16) + noise[y : y + height, x : x + width]
    result: Pixels = np.minimum(np.maximum(noisy, 0), 255).astype(np.uint8)
    return result


def _saturating(share: float) -> Floats:
    """Return the (3, 3) matrix that blends colours (rows) with their grey; 1 keeps them."""
    grey = np.outer((0.299, 0.587, 0.114), np.ones(3))
    return (share * np.eye(3) + (1 - share) * grey).astype(np.float32)


@lru_cache(maxsize=64)
def _tone(gamma: float) -> Pixels:
    """Return the gamma curve as a lookup table (256,)."""
    curve = 255 * (np.arange(256) / 255) ** gamma
    return np.round(curve).astype(np.uint8)


@lru_cache(maxsize=16)
def _noise(level: float, height: int, width: int) -> NDArray[np.int16]:
    """Return noise (2 h, 2 w, 3) of this standard deviation, from which windows are cut."""
    rng = stream(0, Domain.SCENE, height, width)
    field = rng.standard_normal((2 * height, 2 * width, 3), dtype=np.float32) * level
    return np.round(field).astype(np.int16)
