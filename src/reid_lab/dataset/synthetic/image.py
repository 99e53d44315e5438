"""Render one image: a person in front of a camera, framed by an imperfect detector."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np

from reid_lab.dataset.synthetic.camera import Camera, camera, degrade, project
from reid_lab.dataset.synthetic.draw import Canvas, Floats, Pixels, Tube, paint
from reid_lab.dataset.synthetic.figure import tubes
from reid_lab.dataset.synthetic.keys import Domain, Population, stream
from reid_lab.dataset.synthetic.occluder import half_seen, occlude, passerby
from reid_lab.dataset.synthetic.person import Pedestrian, person
from reid_lab.dataset.synthetic.pose import walk
from reid_lab.dataset.synthetic.recipe import Recipe
from reid_lab.dataset.synthetic.scene import panorama
from reid_lab.dataset.synthetic.variation import (
    cast,
    dressed,
    drifted,
    image_stream,
    track_stream,
    varied_camera,
)
from reid_lab.optional import load

SUPERSAMPLING = 2  # people are drawn at this multiple of the size, then reduced


@dataclass(frozen=True)
class ImageKey:
    """The key of an image: person `index` of `split`, camera `camid`, number `take`."""

    split: Population
    index: int
    camid: int
    take: int
    junk: bool = False


@dataclass(frozen=True)
class Framing:
    """Position of the body in the image: pixels per body height, and its centre in pixels."""

    scale: float
    x: float
    y: float


def render_jpeg(recipe: Recipe, key: ImageKey) -> bytes:
    """Render an image as JPEG; another encoder would give different pixels."""
    simplejpeg = encoder()
    quality = camera(recipe.seed, key.camid).quality
    data: bytes = simplejpeg.encode_jpeg(
        render_image(recipe, key), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return data


def encoder() -> Any:
    """Import and return simplejpeg.

    Raises:
        MissingPackageError: it is not installed.
    """
    return load("simplejpeg", "rendering a synthetic data set")


def render_image(recipe: Recipe, key: ImageKey) -> Pixels:
    """Render an image, (height, width, 3) uint8 RGB; it depends on the recipe and key only."""
    domain = Domain.JUNK if key.junk else Domain.IMAGE
    rng = stream(recipe.seed, domain, key.split, key.index, key.camid, key.take)
    amount = float(recipe.variation)
    varying = image_stream(recipe.seed, domain, key.split, key.index, key.camid, key.take)
    view = varied_camera(recipe.seed, key.camid, amount)
    pedestrian = dressed(person(recipe.seed, recipe.lookalikes, key.split, key.index), amount)
    height, width = recipe.height, recipe.width
    canvas = Canvas(height * SUPERSAMPLING, width * SUPERSAMPLING)
    back = _background(recipe, key.camid, view, rng)
    heading = _heading(recipe, key, view, rng)
    framing = _junk_framing(rng, height, width) if key.junk else _framing(rng, height, width)
    track = track_stream(recipe.seed, key.split, key.index, key.camid)
    framing = _misaligned(framing, varying, height, width, amount)
    if varying.random() < 0.35 * amount:  # somebody behind
        other = dressed(passerby(recipe.seed, varying), amount)
        size = framing.scale * float(varying.uniform(0.45, 0.8))
        x = width * float(varying.uniform(-0.1, 1.1))
        behind = Framing(size, x, framing.y - 0.1 * framing.scale)
        turn = float(varying.uniform(-pi, pi))
        _draw_pedestrian(canvas, view, other, behind, turn, varying)
        canvas.put_behind()
    if not (key.junk and rng.random() < 0.25):
        _cast_shadow(back, framing, view)
        _draw_pedestrian(canvas, view, pedestrian, framing, heading, rng)

    def draw_passerby(other: Pedestrian, x: float, turn: float) -> None:
        beside = Framing(framing.scale, x * width, framing.y)
        _draw_pedestrian(canvas, view, other, beside, turn, rng)

    occlude(canvas, rng, recipe.seed, draw_passerby)
    if varying.random() < 0.25 * amount:
        half_seen(canvas, varying, recipe.seed, draw_passerby)
    colour, cover = canvas.reduced(SUPERSAMPLING)
    image = cast(back * (1 - cover) + colour, varying, amount)
    return degrade(drifted(view, track, amount), image, rng)


def _background(recipe: Recipe, camid: int, view: Camera, rng: np.random.Generator) -> Floats:
    """Cut a random window (3, height, width) from the camera's panorama."""
    height, width = recipe.height, recipe.width
    horizon = max(0.02, 0.55 - 1.1 * view.pitch)
    wide = panorama(recipe.seed, camid, horizon, height, width, float(recipe.variation))
    y = int(rng.integers(0, wide.shape[1] - height + 1))
    x = int(rng.integers(0, wide.shape[2] - width + 1))
    return wide[:, y : y + height, x : x + width].astype(np.float32)


def _heading(recipe: Recipe, key: ImageKey, view: Camera, rng: np.random.Generator) -> float:
    """Draw the heading in radians: mostly along the track, whose direction all images share."""
    track = stream(recipe.seed, Domain.TRACK, key.split, key.index, key.camid)
    along = view.path + (pi if track.random() < 0.5 else 0.0) + float(track.normal(0, 0.3))
    if rng.random() < 0.3:
        return float(rng.uniform(-pi, pi))
    return along + float(rng.normal(0, 0.2))


def _framing(rng: np.random.Generator, height: int, width: int) -> Framing:
    """Draw the framing of a detection: usually good, sometimes too tight or too loose."""
    scale = height * float(rng.uniform(0.92, 1.0))
    x = width * (0.5 + float(rng.normal(0, 0.035)))
    y = height * (0.5 + float(rng.normal(0, 0.015)))
    odd = rng.random()
    if odd < 0.09:  # feet cut off
        scale *= float(rng.uniform(1.15, 1.3))
        y = 0.05 * height + 0.5 * scale
    elif odd < 0.14:  # head cut off
        scale *= 1.15
        y = 0.97 * height - 0.5 * scale
    elif odd < 0.24:  # too loose
        scale *= float(rng.uniform(0.75, 0.88))
        x += width * float(rng.uniform(-0.15, 0.15))
    return Framing(scale, x, y)


def _misaligned(
    framing: Framing, rng: np.random.Generator, height: int, width: int, amount: float
) -> Framing:
    """Shift and scale a detection, as a detector that misses the outline."""
    if amount == 0:
        return framing
    dx, dy, zoom = rng.normal(0, 1, 3) * amount
    return Framing(
        framing.scale * float(np.exp(0.1 * zoom)),
        framing.x + 0.09 * width * float(dx),
        framing.y + 0.045 * height * float(dy),
    )


def _junk_framing(rng: np.random.Generator, height: int, width: int) -> Framing:
    """Draw the framing of a bad detection: a part of a person, or far off centre."""
    scale = height * float(rng.uniform(0.9, 2.6))
    x = width * (0.5 + float(rng.choice([-1, 1])) * float(rng.uniform(0.3, 0.7)))
    y = height * float(rng.uniform(0.0, 1.0))
    return Framing(scale, x, y)


def _draw_pedestrian(
    canvas: Canvas,
    view: Camera,
    pedestrian: Pedestrian,
    framing: Framing,
    heading: float,
    rng: np.random.Generator,
) -> None:
    """Draw a person, fitted to the framing by their projected height."""
    parts = tubes(pedestrian, walk(pedestrian, rng))
    ends = np.asarray([p for part in parts for p in (part.start, part.end)], np.float32)
    points, size = project(view, ends, heading)
    reach = np.asarray([r for p in parts for r in (p.width[0], p.width[-1])], np.float32)
    top, bottom = _extent(points[:, 1], reach)
    zoom = framing.scale * SUPERSAMPLING / (bottom - top)
    points = points * np.float32(zoom)
    points[:, 0] += np.float32(framing.x * SUPERSAMPLING)
    points[:, 1] += np.float32(framing.y * SUPERSAMPLING - 0.5 * (bottom + top) * zoom)
    scale = (size[::2] + size[1::2]) * np.float32(0.5 * zoom)
    across, towards = _turned(parts, heading, scale[:, None])
    for k in np.argsort(-points[::2, 2]):  # nearest first, so that hidden surfaces are skipped
        part = parts[k]
        start, end = points[2 * k], points[2 * k + 1]
        paint(canvas, start, end, across[k], towards[k], part, heading, view.light)


def _extent(y: Floats, reach: Floats) -> tuple[float, float]:
    return float((y - reach).min()), float((y + reach).max())


def _turned(parts: list[Tube], heading: float, scale: Floats) -> tuple[Floats, Floats]:
    """Return half widths (n, STEPS) across and towards the camera of tubes turned by `heading`."""
    c, s = np.float32(np.cos(heading)), np.float32(np.sin(heading))
    width = np.stack([part.width for part in parts]) * scale
    depth = np.stack([part.depth for part in parts]) * scale
    return np.hypot(width * c, depth * s), np.hypot(width * s, depth * c)


def _cast_shadow(back: Floats, framing: Framing, view: Camera) -> None:
    """Darken the ground under the feet, away from the light, in place."""
    height, width = back.shape[1:]
    feet = framing.y + 0.47 * framing.scale
    flat = 0.05 + 0.12 * np.sin(view.pitch)
    ys = (np.arange(height, dtype=np.float32) - np.float32(feet)) / np.float32(flat * framing.scale)
    middle = framing.x - 0.14 * framing.scale * view.light.direction[0]
    xs = (np.arange(width, dtype=np.float32) - np.float32(middle)) / np.float32(
        0.22 * framing.scale
    )
    dark = np.maximum(1 - xs * xs - (ys * ys)[:, None], 0)
    back *= 1 - np.float32(0.5) * np.minimum(dark, 1)
