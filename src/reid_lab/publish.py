"""The report's tables, plots and page, sent to the loggers that show such things."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger


def publish(folder: Path, loggers: Sequence[Logger]) -> None:
    """Log a run's tables, plots and report to each W&B logger."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.log(
                {
                    **{f"tables/{t.stem}": _table(t) for t in (folder / "results").glob("*.csv")},
                    **{f"plots/{p.stem}": wandb.Image(str(p)) for p in folder.glob("report/*.png")},
                    "report": wandb.Html(str(folder / "report" / "report.html")),
                }
            )


def finish(loggers: Sequence[Logger]) -> None:
    """Close W&B runs: the next job of a multirun starts its own."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        wandb.finish()


def _table(path: Path) -> wandb.Table:
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return wandb.Table(columns=list(header), data=[[_number(cell) for cell in row] for row in rows])


def _number(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
