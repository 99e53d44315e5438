"""A small rasteriser: textured, shaded tubes with a depth buffer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 in fact
STEPS = 48  # samples of a profile along a tube


@dataclass(slots=True)
class Tube:
    """A part of the body: an elliptic tube from `start` to `end`.

    start, end: (left, up, forward) in the person's own frame, in body heights.
    width, depth: (STEPS,) half widths to the side and to the front, in body heights.
    texture: (rows, columns, 3), 0-255; rows run along the tube, columns around it, the
        middle column being the person's front and the columns right of it their left side.
    flat: whether (start, end) are cut flat rather than rounded.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    width: Floats
    depth: Floats
    texture: Floats
    flat: tuple[bool, bool] = (False, False)


@dataclass(slots=True)
class Canvas:
    """What is nearest in each of height x width pixels: depth, texel, and brightness.

    Colours are looked up once, at the end, which is cheaper than writing them tube by tube.
    """

    height: int
    width: int
    depth: Floats = field(init=False)  # larger is nearer, -inf is empty
    texel: NDArray[np.intp] = field(init=False)
    shade: Floats = field(init=False)
    pixel: NDArray[np.intp] = field(init=False)  # (height, width) flat indices
    _sheets: list[Floats] = field(init=False, default_factory=list)
    _first: dict[int, int] = field(init=False, default_factory=dict)
    _size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        size = self.height * self.width
        self.depth = np.full(size, -np.inf, np.float32)
        self.texel = np.zeros(size, np.intp)
        self.shade = np.zeros(size, np.float32)
        self.pixel = np.arange(size).reshape(self.height, self.width)

    def texels(self, texture: Floats) -> int:
        """Number of the first texel of this (..., 3) texture."""
        if id(texture) not in self._first:
            self._first[id(texture)] = self._size
            self._sheets.append(texture.reshape(-1, 3))
            self._size += len(self._sheets[-1])
        return self._first[id(texture)]

    def reduced(self, factor: int) -> tuple[Floats, Floats]:
        """Premultiplied colour (h, w, 3) and coverage (h, w, 1) at 1/factor of the size."""
        shape = (self.height, self.width)
        cover = (self.depth > -np.inf).astype(np.float32).reshape(*shape, 1)
        if not self._sheets:
            return _shrunk(np.zeros((*shape, 3), np.float32), factor), _shrunk(cover, factor)
        colour = np.concatenate(self._sheets).take(self.texel, axis=0, mode="clip")
        colour *= self.shade[:, None]
        return _shrunk(colour.reshape(*shape, 3), factor), _shrunk(cover, factor)


def _shrunk(field: Floats, factor: int) -> Floats:
    """The mean of blocks of factor x factor; sums of slices are much faster than `mean`."""
    rows = sum((field[k::factor] for k in range(1, factor)), start=field[::factor])
    both = sum((rows[:, k::factor] for k in range(1, factor)), start=rows[:, ::factor])
    return both * np.float32(1 / factor**2)


@dataclass(slots=True)
class Light:
    """Direction to the light (right, down, towards the viewer) and the share of diffuse light."""

    direction: tuple[float, float, float]
    strength: float


def paint(
    canvas: Canvas,
    start: Floats,
    end: Floats,
    width: Floats,
    depth: Floats,
    tube: Tube,
    turn: float,
    light: Light,
) -> None:
    """Draw a projected tube.

    start, end: (x, y, z) in pixels, z towards the viewer. width, depth: (STEPS,) half widths
    across and towards the viewer, in pixels. turn: heading of the person in radians, 0 = to
    the viewer, positive = towards the right of the picture.
    """
    ax, ay, az = (float(v) for v in start)
    dx, dy, dz = (float(v) for v in end - start)
    length = max((dx * dx + dy * dy) ** 0.5, 1e-3)
    reach = float(width.max())
    x0, x1 = _span(ax, ax + dx, reach, canvas.width)
    y0, y1 = _span(ay, ay + dy, reach, canvas.height)
    if x0 >= x1 or y0 >= y1:
        return
    ux, uy = np.float32(dx / length), np.float32(dy / length)
    xs = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - ax)
    ys = (np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - ay))[:, None]
    along = (xs * ux + ys * uy).ravel()
    across = (xs * uy - ys * ux).ravel()
    radius, room = _outline(width, length, reach, tube.flat)
    place = (along + np.float32(reach + 1)).astype(np.intp)
    height = room.take(place, mode="clip")
    height -= across * across
    found = np.flatnonzero(height > 0)
    along, place = along.take(found), place.take(found)
    thick = radius.take(place, mode="clip")
    facing = np.sqrt(height.take(found)) / thick
    step = (along * np.float32((STEPS - 1) / length)).astype(np.intp)
    near = np.float32(az) + along * np.float32(dz / length)
    near += facing * depth.take(step, mode="clip")
    where = canvas.pixel[y0:y1, x0:x1].ravel().take(found)
    seen = np.flatnonzero(near > canvas.depth.take(where))
    if seen.size == 0:
        return
    where, along, facing = where.take(seen), along.take(seen), facing.take(seen)
    side = across.take(found.take(seen)) / thick.take(seen)
    canvas.depth[where] = near.take(seen)
    ends = (float(width[0]), float(width[-1]))
    texel = _texel(tube, side, along, facing, length, ends, turn)
    canvas.texel[where] = texel + canvas.texels(tube.texture)
    canvas.shade[where] = _shade(light, side, facing, ux, uy)


def _outline(
    width: Floats, length: float, reach: float, flat: tuple[bool, bool]
) -> tuple[Floats, Floats]:
    """Radius, and squared half width of the outline (negative outside), pixel by pixel.

    The first pixel lies `reach` + 1 before the start of the tube; rounded ends are included.
    """
    place = np.arange(int(length + 2 * reach) + 4, dtype=np.float32) - np.float32(reach + 0.5)
    inner = np.minimum(np.maximum(place, 0), np.float32(length))
    radius = width.take((inner * np.float32((STEPS - 1) / length)).astype(np.intp))
    room = radius * radius - (place - inner) ** 2
    if flat[0]:
        room[: int(reach + 1)] = -1
    if flat[1]:
        room[int(reach + 1 + length) :] = -1
    return radius, room


def _texel(
    tube: Tube,
    side: Floats,
    along: Floats,
    facing: Floats,
    length: float,
    ends: tuple[float, float],
    turn: float,
) -> NDArray[np.intp]:
    """Numbers (n,) of the texels at the given places of the tube."""
    rows, columns = tube.texture.shape[:2]
    before = 0.0 if tube.flat[0] else ends[0]
    after = 0.0 if tube.flat[1] else ends[1]
    v = (along + np.float32(before)) * np.float32(rows / (length + before + after))
    u = np.arctan2(side, facing) * np.float32(columns / (2 * np.pi))
    u += np.float32(columns * (0.5 - turn / (2 * np.pi)))
    row = np.minimum(np.maximum(v, np.float32(0)), np.float32(rows - 1)).astype(np.intp)
    column = (u + np.float32(2 * columns)).astype(np.intp) % columns
    return row * columns + column


def _shade(light: Light, side: Floats, facing: Floats, ux: np.float32, uy: np.float32) -> Floats:
    """Brightness (n,): soft lambert, darker towards the outline."""
    x, y, z = (np.float32(v) for v in light.direction)
    lit = side * (uy * x - ux * y) + facing * z
    shade = np.float32(1 - light.strength) + np.float32(light.strength) * np.maximum(lit, -0.2)
    return shade * (np.float32(0.72) + np.float32(0.28) * facing)


def _span(a: float, b: float, reach: float, size: int) -> tuple[int, int]:
    return max(0, int(min(a, b) - reach)), min(size, int(max(a, b) + reach) + 2)
