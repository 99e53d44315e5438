"""Soft maps and hard boxes of every level over the image. HAN, figure 7."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reid_lab.report.style import QUIET
from reid_lab.results.attention import Attention

# head and shoulders red, upper body blue, upper legs green, lower legs violet, as in the paper
COLOURS = ("#e02020", "#2060e0", "#20a040", "#9030c0")


def attention(shown: Attention | None) -> Figure | None:
    """One row per image: the image, then boxes and soft map of each level."""
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
            style = {"cmap": "jet", "alpha": 0.5, "interpolation": "bilinear"}
            cell.imshow(weights, extent=(0, 1, 1, 0), aspect="auto", **style)
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.35 / figure.get_figheight(), 0.06, 0.04)
    return figure


def _draw_boxes(cell: Axes, boxes: np.ndarray) -> None:
    for number, (left, top, right, bottom) in enumerate(boxes):
        colour = COLOURS[number % len(COLOURS)]
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, lw=2)
        cell.add_patch(frame)
    cell.set(xlim=(-0.16, 1.16), ylim=(1.08, -0.08))
