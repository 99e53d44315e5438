"""Publish a run to W&B: settings, tables, plots, and charts of the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pytorch_lightning.loggers import Logger, WandbLogger

from reid_lab.report import Run
from reid_lab.report.tables import best_exit
from reid_lab.results import Results
from reid_lab.results.rows.accuracy import ExitRow
from reid_lab.results.rows.budget import StreamRow
from reid_lab.results.table import Table

if TYPE_CHECKING:
    import wandb

PARTS = ("model", "backbone", "loss", "dataset")
# table -> x, y and what draws a line each
CHARTS = {
    "exits": ("mul_adds", "rank1", None),
    "stream": ("realised", "rank1", "policy"),
    "anytime": ("budget", "rank1", None),
    "cost": ("latency_p50_ms", "mul_adds", None),
}
Row = TypeVar("Row")


def log_config(loggers: Sequence[Logger], config: Mapping[str, Any]) -> None:
    """Log the run's whole config to each W&B logger, with the choice of each part in `kind`.

    `kind.model` is DaRe where `model._target_` is reid_lab.model.DaRe: it identifies the runs
    in a sweep's parallel coordinates.
    """
    for logger in _wandb(loggers):
        logger.log_hyperparams({**config, "kind": chosen_parts(config)})


def chosen_parts(config: Mapping[str, Any]) -> dict[str, str]:
    """The class that each part of the config names, and the data set's name."""
    targets = {part: (config.get(part) or {}).get("_target_") for part in PARTS}
    named = {part: target.rpartition(".")[2] for part, target in targets.items() if target}
    reader = (config.get("dataset") or {}).get("reader") or {}
    if reader.get("_target_"):
        named["dataset"] = reader.get("name") or reader["_target_"].rpartition(".read_")[2]
    return named


def publish(run: Run, loggers: Sequence[Logger]) -> None:
    """Log a run's tables, charts of them, plots and report to each W&B logger.

    The summary gets `best/rank1`, `best/mAP` and `best/mul_adds` of the most accurate exit, to
    compare runs of different methods.
    """
    chosen = _wandb(loggers)
    if not chosen:
        return
    import wandb

    report = run.folder / "report"
    pictures = [*report.glob("*.png"), *report.glob("*.jpg")]
    tables = {name: wandb_table(table, rows) for name, (table, rows) in run.tables.items()}
    for logger in chosen:
        logger.experiment.log(
            {
                **{f"tables/{name}": table for name, table in tables.items()},
                **charts(run),
                **{f"plots/{p.stem}": wandb.Image(str(p)) for p in pictures},
                "report": wandb.Html(str(report / "report.html")),
            }
        )
        logger.experiment.summary.update(headline(run.exits))


def finish_wandb(loggers: Sequence[Logger]) -> None:
    """Close W&B runs, as the next job of a multirun starts its own."""
    if _wandb(loggers):
        import wandb

        wandb.finish()


def charts(results: Results) -> dict[str, Any]:
    """W&B's own charts of the tables in CHARTS."""
    import wandb

    drawn = {}
    for name, (x, y, stroke) in CHARTS.items():
        if name not in results.tables:
            continue
        table, title = wandb_table(*results.tables[name]), f"{name}: {y} against {x}"
        drawn[f"charts/{name}"] = (
            wandb.plot.line(table, x, y, stroke=stroke, title=title)
            if stroke or name == "anytime"
            else wandb.plot.scatter(table, x, y, title=title)
        )
    return drawn


def headline(exits: Sequence[ExitRow]) -> dict[str, Any]:
    """The most accurate exit; among equals the cheapest."""
    best = best_exit(exits)
    if best is None:
        return {}
    names = ("rank1", "mAP", "mul_adds", "dim")
    return {"best/exit": best.name, **{f"best/{name}": getattr(best, name) for name in names}}


def wandb_table(table: Table[Row], rows: Sequence[Row]) -> wandb.Table:
    """A table for W&B, which allows one type per column: numbers are floats, missing ones None."""
    import wandb

    columns: list[Any] = table.columns(rows)
    flat = [_labelled(row, table.flat(row)) for row in rows]
    lines = [[_number(values.get(name)) for name in columns] for values in flat]
    return wandb.Table(columns=columns, data=lines)


def _labelled(row: object, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a row; W&B draws a line for each `policy`, so that it gets the whole name."""
    return {**values, "policy": str(row.routing)} if isinstance(row, StreamRow) else values


def _number(value: object) -> object:
    if not isinstance(value, int | float):
        return value
    return None if math.isnan(value) else float(value)


def _wandb(loggers: Sequence[Logger]) -> list[WandbLogger]:
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]
