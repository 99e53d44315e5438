"""Soft maps and hard boxes of every level over the image. HAN, figure 7."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reid_lab.files.stored import StoredFileError, read_arrays
from reid_lab.report.style import QUIET

# head and shoulders red, upper body blue, upper legs green, lower legs violet, as in the paper
ROWS, LEVELS = 50, 20  # that a figure can show
COLOURS = ("#e02020", "#2060e0", "#20a040", "#9030c0")


@dataclass(frozen=True)
class Attention:
    """`pixels` (N, H, W, 3) uint8; of each level a soft map (N, h, w) and boxes (N, T, 4)."""

    pixels: np.ndarray
    levels: list[tuple[np.ndarray, np.ndarray]]


def load_attention(path: Path) -> Attention | None:
    """What the callback left, if it did; no more images than a figure can show.

    Raises:
        StoredFileError: the file is broken.
    """
    if not os.path.lexists(path):
        return None
    arrays = read_arrays(path)
    try:
        count = sum(name.startswith("soft") for name in arrays)
        levels = [(arrays[f"soft{n}"], arrays[f"boxes{n}"]) for n in range(1, count + 1)]
        pixels = arrays["pixels"]
    except KeyError as error:
        raise StoredFileError(path, f"no array {error}") from error
    images = len(pixels) if pixels.ndim else 0
    fits = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] == 3
    for soft, boxes in levels:
        fits = fits and soft.dtype.kind == boxes.dtype.kind == "f"
        fits = fits and (soft.ndim, boxes.ndim, boxes.shape[-1:]) == (3, 3, (4,))
        fits = fits and len(soft) == len(boxes) == images
        fits = fits and bool(np.isfinite(soft).all() and np.isfinite(boxes).all())
    sizes = [pixels.shape, *(soft.shape for soft, _ in levels)]
    if not fits or 0 in chain(*sizes) or len(levels) > LEVELS:
        raise StoredFileError(path, "not the pixels, maps and boxes of some images")
    return Attention(pixels[:ROWS], [(soft[:ROWS], boxes[:ROWS]) for soft, boxes in levels])


def attention(shown: Attention | None) -> Figure | None:
    """A row an image: the image, then boxes and soft map of each level."""
    if shown is None:
        return None
    rows, (height, width) = len(shown.pixels), shown.pixels.shape[1:3]
    columns = 1 + 2 * len(shown.levels)
    figure = Figure(figsize=(1.05 * columns, 1.05 * rows * height / width + 0.4))
    figure.set_facecolor("none")  # on light paper and on dark
    cells = figure.subplots(rows, columns, squeeze=False)
    for row, image in zip(cells, shown.pixels, strict=True):
        for cell in row:
            cell.imshow(image, extent=(0, 1, 1, 0), aspect="auto")
            cell.set(xticks=[], yticks=[], facecolor="none")
            cell.grid(False)
            cell.spines[:].set_visible(False)
    cells[0, 0].set_title("image", loc="center", color=QUIET)
    for level, (soft, boxes) in enumerate(shown.levels, 1):
        hard_cells, soft_cells = cells[:, 2 * level - 1], cells[:, 2 * level]
        hard_cells[0].set_title(f"hard {level}", loc="center", color=QUIET)
        soft_cells[0].set_title(f"soft {level}", loc="center", color=QUIET)
        for cell, drawn in zip(hard_cells, boxes, strict=True):
            _draw_boxes(cell, drawn)
        for cell, weights in zip(soft_cells, soft, strict=True):
            look = {"cmap": "jet", "alpha": 0.5, "interpolation": "bilinear"}
            cell.imshow(weights, extent=(0, 1, 1, 0), aspect="auto", **look)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.35 / figure.get_figheight(), 0.06, 0.04)
    return figure


def _draw_boxes(cell: Axes, boxes: np.ndarray) -> None:
    for number, (left, top, right, bottom) in enumerate(boxes):
        colour = COLOURS[number % len(COLOURS)]
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, lw=2)
        cell.add_patch(frame)
    cell.set(xlim=(-0.16, 1.16), ylim=(1.08, -0.08))
