"""The transfer matrix: accuracies of checkpoints (rows) on data sets (columns)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from textwrap import fill

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reid_lab.files.atomic import write_bytes
from reid_lab.report.plots import METRICS
from reid_lab.report.style import INK, SET, axes, png
from reid_lab.results.rows.multirun import TRANSFER, TransferRow


@dataclass(frozen=True)
class TransferCell:
    """A test of a checkpoint: accuracies of its last exit, from 0 to 1.

    Attributes:
        trained, tested: labels of the row and the column.
        own: whether the checkpoint was trained on the data set that it was tested on.
    """

    trained: str
    tested: str
    checkpoint: str
    rank1: float
    mAP: float  # noqa: N815
    own: bool = False


def distinct(names: Sequence[str], details: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Add details to names that stand for several keys."""
    known: dict[str, set[str]] = defaultdict(set)
    for name, key in zip(names, keys, strict=True):
        known[name].add(key)
    return [
        f"{name} ({detail})" if len(known[name]) > 1 else name
        for name, detail in zip(names, details, strict=True)
    ]


def write_transfer(folder: Path, cells: Sequence[TransferCell]) -> list[Path]:
    """Write `transfer.csv`, `transfer_rank1.png` and `transfer_mAP.png`; return their paths."""
    names = [TRANSFER.file, *(f"transfer_{metric}.png" for metric in METRICS)]
    if not cells:  # those of an earlier sweep
        for name in names:
            (folder / name).unlink(missing_ok=True)
        return []
    TRANSFER.write(folder / TRANSFER.file, transfer_rows(cells))
    for metric in METRICS:
        content = png(partial(matrix, cells, metric))
        assert content is not None
        write_bytes(folder / f"transfer_{metric}.png", content, durable=False)
    return [folder / name for name in names]


def transfer_rows(cells: Sequence[TransferCell]) -> list[TransferRow]:
    """One row per checkpoint, with the mean of the cells of each data set."""
    columns = dict.fromkeys(cell.tested for cell in cells)
    rows = []
    for trained in dict.fromkeys(cell.trained for cell in cells):
        own = [cell for cell in cells if cell.trained == trained]
        figures = {
            f"{tested}/{metric}": fmean(values)
            for tested in columns
            for metric in METRICS
            if (values := [getattr(c, metric) for c in own if c.tested == tested])
        }
        rows.append(TransferRow(trained_on=trained, checkpoint=own[0].checkpoint, figures=figures))
    return rows


def matrix(cells: Sequence[TransferCell], metric: str) -> Figure:
    """Accuracies in percent; a frame marks the training data set, empty cells were not tested."""
    rows = transfer_rows(cells)
    columns = list(dict.fromkeys(cell.tested for cell in cells))
    values = [
        [100 * row.figures.get(f"{c}/{metric}", float("nan")) for c in columns] for row in rows
    ]
    above = [fill(column, 18) for column in columns]
    beside = [fill(row.trained_on, 28) for row in rows]
    lines = max(label.count("\n") for label in above)
    letters = max(len(line) for label in beside for line in label.split("\n"))
    size = 1.1 + 0.08 * letters + 1.5 * len(columns), 1.5 + 0.17 * lines + 0.6 * len(rows)
    figure, ax = axes(f"{METRICS[metric]} (%)", *size)
    ax.grid(False)
    ax.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    own = {(cell.trained, cell.tested) for cell in cells if cell.own}
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            value = values[y][x]
            if value == value:
                colour = "white" if value > 60 else INK
                ax.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour)
            if (row.trained_on, column) in own:
                ax.add_patch(
                    Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, fill=False, color=SET[2], lw=2)
                )
    ax.set_xticks(range(len(columns)), above)
    ax.set_yticks(range(len(rows)), beside)
    ax.set_xlabel("tested on")
    ax.set_ylabel("trained on")
    return figure
