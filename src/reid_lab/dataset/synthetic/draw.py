"""A small rasteriser: textured, shaded tubes with a depth buffer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32
Pixels = NDArray[np.uint8]
STEPS = 48  # samples of a profile along a tube


@dataclass(slots=True)
class Tube:
    """A part of the body: an elliptic tube from `start` to `end`.

    Attributes:
        start, end: (left, up, forward) in the person's frame, in body heights.
        width, depth: (STEPS,) half widths to the side and to the front, in body heights.
        texture: (3, rows, columns), 0 to 255; columns are a power of two. Rows run along the tube,
            columns around it: the middle is the person's front, right of it their left side.
        flat: whether (start, end) are cut flat instead of rounded.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    width: Floats
    depth: Floats
    texture: Floats
    flat: tuple[bool, bool] = (False, False)


@dataclass(slots=True)
class Canvas:
    """The nearest surface in each of height x width pixels: depth, texel and brightness.

    Colours are looked up once at the end, which is cheaper than writing them for each tube.
    """

    height: int
    width: int
    depth: Floats = field(init=False)  # larger is nearer, -inf is empty
    texel: NDArray[np.intp] = field(init=False)
    shade: Floats = field(init=False)
    pixel: NDArray[np.intp] = field(init=False)  # (height, width) flat indices
    _textures: list[Floats] = field(init=False, default_factory=list)
    _offsets: dict[int, int] = field(init=False, default_factory=dict)
    _size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        size = self.height * self.width
        self.depth = np.full(size, -np.inf, np.float32)
        self.texel = np.zeros(size, np.intp)
        self.shade = np.zeros(size, np.float32)
        self.pixel = np.arange(size).reshape(self.height, self.width)

    def texels(self, texture: Floats) -> int:
        """Return the index of the first texel of a texture (3, rows, columns), adding it if new."""
        if id(texture) not in self._offsets:
            self._offsets[id(texture)] = self._size
            self._textures.append(texture.reshape(3, -1))
            self._size += self._textures[-1].shape[1]
        return self._offsets[id(texture)]

    def put_behind(self) -> None:
        """Move all that is drawn so far behind everything drawn later."""
        self.depth[self.depth > -np.inf] -= 1e5

    def reduced(self, factor: int) -> tuple[Floats, Floats]:
        """Return premultiplied colour (3, h, w) and coverage (h, w) at 1/factor of the size."""
        shape = (self.height, self.width)
        cover = _shrunk((self.depth > -np.inf).astype(np.float32).reshape(shape), factor)
        if not self._textures:
            return np.zeros((3, *cover.shape), np.float32), cover
        atlas = np.concatenate(self._textures, axis=1)
        planes = [plane.take(self.texel, mode="clip") * self.shade for plane in atlas]
        return np.stack([_shrunk(plane.reshape(shape), factor) for plane in planes]), cover


def _shrunk(plane: Floats, factor: int) -> Floats:
    """Average blocks of factor x factor; sums of slices are much faster than `mean`."""
    rows = sum((plane[k::factor] for k in range(1, factor)), start=plane[::factor])
    both = sum((rows[:, k::factor] for k in range(1, factor)), start=rows[:, ::factor])
    result: Floats = both * np.float32(1 / factor**2)
    return result


@dataclass(slots=True)
class Light:
    """Direction to the light (right, down, towards the camera) and its strength, 0 to 1."""

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

    Args:
        start, end: (x, y, z) in pixels, z towards the camera.
        width, depth: (STEPS,) half widths across and towards the camera, in pixels.
        turn: heading of the person in radians; 0 is towards the camera, positive to the right.
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
    index: np.ndarray = ((xs * ux + np.float32(reach + 1)) + ys * uy).astype(np.intp).ravel()
    across = (xs * uy - ys * ux).ravel()
    cut = _slices(tube, width, depth, length, reach, az, dz)

    room = cut.room.take(index, mode="clip")
    room -= across * across
    found = (room > 0).nonzero()[0]
    index = index.take(found)
    radius = cut.radius.take(index, mode="clip")
    facing = np.sqrt(room.take(found)) / radius
    near = cut.near.take(index, mode="clip") + facing * cut.depth.take(index, mode="clip")
    where = canvas.pixel[y0:y1, x0:x1].ravel().take(found)
    seen = (near > canvas.depth.take(where)).nonzero()[0]
    if seen.size == 0:
        return

    where, facing = where.take(seen), facing.take(seen)
    side = across.take(found.take(seen)) / radius.take(seen)
    row = cut.texel.take(index.take(seen), mode="clip") + canvas.texels(tube.texture)
    canvas.depth[where] = near.take(seen)
    canvas.texel[where] = row + _column(side, facing, tube.texture.shape[2], turn)
    canvas.shade[where] = _shade(light, side, facing, ux, uy)


@dataclass(slots=True)
class _Slices:
    """Cross-sections of a tube, one per pixel, from `reach` + 1 pixels before its start."""

    radius: Floats
    room: Floats  # squared half width of the outline, with rounded ends; negative outside
    near: Floats  # depth of the axis
    depth: Floats  # how much nearer the surface is
    texel: NDArray[np.intp]  # first texel of the texture's row


def _slices(
    tube: Tube, width: Floats, depth: Floats, length: float, reach: float, az: float, dz: float
) -> _Slices:
    along = np.arange(int(length + 2 * reach) + 4, dtype=np.float32) - np.float32(reach + 0.5)
    inner = np.minimum(np.maximum(along, 0), np.float32(length))
    step = (inner * np.float32((STEPS - 1) / length)).astype(np.intp)
    radius = width.take(step)
    room = radius * radius - (along - inner) ** 2
    before, after = float(width[0]), float(width[-1])
    if tube.flat[0]:
        room[: int(reach + 1)], before = -1, 0.0
    if tube.flat[1]:
        room[int(reach + 1 + length) :], after = -1, 0.0
    rows, columns = tube.texture.shape[1:]
    v = (along + np.float32(before)) * np.float32(rows / (length + before + after))
    row = np.minimum(np.maximum(v, 0), np.float32(rows - 1)).astype(np.intp)
    near = np.float32(az) + inner * np.float32(dz / length)
    return _Slices(radius, room, near, depth.take(step), row * columns)


def _column(side: Floats, facing: Floats, columns: int, turn: float) -> NDArray[np.intp]:
    """Return texture columns (n,); `columns` is a power of two."""
    u = np.arctan2(side, facing) * np.float32(columns / (2 * np.pi))
    u += np.float32(columns * (2.5 - turn / (2 * np.pi)))  # 2: never negative
    column: NDArray[np.intp] = u.astype(np.intp) & (columns - 1)
    return column


def _shade(light: Light, side: Floats, facing: Floats, ux: np.float32, uy: np.float32) -> Floats:
    """Return brightness (n,): Lambertian with ambient light, darker towards the outline."""
    x, y, z = (np.float32(v) for v in light.direction)
    lit = side * (uy * x - ux * y) + facing * z
    shade = np.float32(1 - light.strength) + np.float32(light.strength) * np.maximum(lit, -0.2)
    result: Floats = shade * (np.float32(0.72) + np.float32(0.28) * facing)
    return result


def _span(a: float, b: float, reach: float, size: int) -> tuple[int, int]:
    """Return the range of pixels between a and b, widened by `reach`, clipped to `size`."""
    return max(0, int(min(a, b) - reach)), min(size, int(max(a, b) + reach) + 2)
