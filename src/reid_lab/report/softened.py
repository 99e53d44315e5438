"""Softened probabilities of a teacher at several temperatures. Distillation paper, figure 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import softmax

from reid_lab.files.atomic import write_bytes
from reid_lab.report.style import QUIET, SET, png
from reid_lab.results.cells import Share
from reid_lab.results.table import Table

SHOWN = 4  # images in the figure


@dataclass(frozen=True, kw_only=True)
class SoftenedRow:
    """`softened.csv`: the probability of one class for an image, equation 1 at `temperature`."""

    image: str
    temperature: float
    identity: int  # the class's number
    probability: Share


SOFTENED = Table("softened.csv", SoftenedRow)


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Logits (N, identities) -> probabilities exp(z / T) / sum exp(z / T), float64."""
    return np.asarray(softmax(logits.astype(np.float64) / temperature, axis=1))


def write_softened(
    folder: Path, images: Sequence[str], logits: np.ndarray, temperatures: Sequence[float]
) -> list[Path]:
    """Write `softened.csv` with all images, and `softened.png` with the first ones.

    Args:
        images: names of the N images.
        logits: (N, identities).
        temperatures: one row of the figure each.
    """
    at = {temperature: softened(logits, temperature) for temperature in temperatures}
    rows = [
        SoftenedRow(image=image, temperature=temperature, identity=k, probability=float(p))
        for number, image in enumerate(images)
        for temperature, probabilities in at.items()
        for k, p in enumerate(probabilities[number])
    ]
    table, drawing = folder / SOFTENED.file, folder / "softened.png"
    SOFTENED.write(table, rows)
    content = png(partial(distributions, images[:SHOWN], at))
    assert content is not None
    write_bytes(drawing, content, durable=False)
    return [table, drawing]


def distributions(images: Sequence[str], at: dict[float, np.ndarray]) -> Figure:
    """Class probabilities: one row per temperature, one column per image.

    Each cell has its own scale; its largest probability is printed, with the difference to the mean
    of the other classes.
    """
    figure = Figure(figsize=(1 + 3.2 * len(images), 1 + 1.1 * len(at)), layout="constrained")
    cells = figure.subplots(len(at), len(images), squeeze=False, sharex=True)
    for row, (temperature, probabilities) in zip(cells, at.items(), strict=True):
        row[0].set_ylabel(f"T = {temperature:g}")
        for cell, values in zip(row, probabilities, strict=False):
            cell.vlines(np.arange(len(values)), 0, values, color=SET[1], linewidth=0.8)
            cell.set_ylim(0, 1.15 * values.max())
            text = f"max {values.max():.2%}, {gap(values):.2%} above the others"
            cell.set_title(text, fontsize=7.5, fontweight="normal", color=QUIET)
    for cell, image in zip(cells[-1], images, strict=True):
        cell.set_xlabel(f"class; {image}"[:60])
    figure.suptitle("Softened probabilities of the teacher", x=0.01, ha="left", weight="bold")
    return figure


def gap(probabilities: np.ndarray) -> float:
    """Difference of the largest probability and the mean of the others."""
    largest = probabilities.max()
    return float(largest - (1 - largest) / max(1, len(probabilities) - 1))


def entropy(probabilities: np.ndarray) -> float:
    """The entropy relative to its maximum, that of equal probabilities."""
    nonzero = probabilities[probabilities > 0]
    return float(-(nonzero * np.log(nonzero)).sum() / np.log(max(2, len(probabilities))))
