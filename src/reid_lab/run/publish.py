"""A run as W&B shows it: its settings, its tables and plots, and charts drawn from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import Logger, WandbLogger

from reid_lab.files.stored import read_table as rows_stored
from reid_lab.results import results_of

if TYPE_CHECKING:
    import wandb

PARTS = ("model", "backbone", "loss", "dataset")
# table -> x, y and what draws a line each
CHARTS = {
    "exits": ("mul_adds", "rank1", None),
    "stream": ("realised", "rank1", "policy"),
    "anytime": ("mul_adds", "rank1", None),
    "cost": ("latency_p50_ms", "mul_adds", None),
}
Table = tuple[list[str], list[list[Any]]]


def describe(loggers: Sequence[Logger], config: Mapping[str, Any]) -> None:
    """Tell each W&B logger the run's whole config, and in `kind` which choice each part is.

    `kind.model` is DaRe where `model._target_` is reid_lab.model.DaRe: what tells runs apart
    in a sweep's parallel coordinates.
    """
    for logger in _wandb(loggers):
        logger.log_hyperparams({**config, "kind": kinds(config)})


def kinds(config: Mapping[str, Any]) -> dict[str, str]:
    """The class that each part of the config names, and the data set's name."""
    targets = {part: (config.get(part) or {}).get("_target_") for part in PARTS}
    named = {part: target.rpartition(".")[2] for part, target in targets.items() if target}
    reader = (config.get("dataset") or {}).get("reader") or {}
    if reader.get("_target_"):
        named["dataset"] = reader.get("name") or reader["_target_"].rpartition(".read_")[2]
    return named


def publish(folder: Path, loggers: Sequence[Logger]) -> None:
    """Log a run's tables, charts of them, plots and report to each W&B logger.

    The summary gets `best/rank1`, `best/mAP` and `best/mul_adds` of the most accurate exit,
    which runs of different methods have in common.
    """
    chosen = _wandb(loggers)
    if not chosen:
        return
    import wandb

    tables = {path.stem: read_table(path) for path in sorted(results_of(folder).glob("*.csv"))}
    for logger in chosen:
        logger.experiment.log(
            {
                **{f"tables/{name}": wandb_table(table) for name, table in tables.items()},
                **charts(tables),
                **{f"plots/{p.stem}": wandb.Image(str(p)) for p in folder.glob("report/*.png")},
                "report": wandb.Html(str(folder / "report" / "report.html")),
            }
        )
        logger.experiment.summary.update(headline(tables["exits"]) if "exits" in tables else {})


def finish(loggers: Sequence[Logger]) -> None:
    """Close W&B runs: the next job of a multirun starts its own."""
    if _wandb(loggers):
        import wandb

        wandb.finish()


def charts(tables: Mapping[str, Table]) -> dict[str, Any]:
    """W&B's own charts of the tables that have both columns."""
    import wandb

    drawn = {}
    for name, (x, y, stroke) in CHARTS.items():
        columns = tables[name][0] if name in tables else []
        if x in columns and y in columns:
            table, title = wandb_table(tables[name]), f"{name}: {y} against {x}"
            drawn[f"charts/{name}"] = (
                wandb.plot.line(table, x, y, stroke=stroke, title=title)
                if stroke or name == "anytime"
                else wandb.plot.scatter(table, x, y, title=title)
            )
    return drawn


def headline(exits: Table) -> dict[str, Any]:
    """The most accurate exit of `exits.csv`; of equals the cheapest."""
    columns, rows = exits
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    own = [r for r in records if r["kind"] == "exit" and r["rank1"] is not None]
    if not own:
        return {}
    best = min(own, key=lambda r: (-r["rank1"], r["mul_adds"]))
    names = ("rank1", "mAP", "mul_adds", "dim")
    return {"best/exit": best["name"], **{f"best/{name}": best[name] for name in names}}


def read_table(path: Path) -> Table:
    """A CSV file; a column in which every cell that is not blank is a number holds numbers.

    Without rows it has no columns either.
    """
    rows = rows_stored(path)
    header = list(rows[0]) if rows else []
    columns = [_cells([row[name] for row in rows]) for name in header]
    return header, [list(row) for row in zip(*columns, strict=True)]


def wandb_table(table: Table) -> wandb.Table:
    import wandb

    return wandb.Table(columns=list(table[0]), data=table[1])


def _cells(texts: Sequence[str]) -> list[Any]:
    """Blank is None, as W&B takes one type a column."""
    try:
        return [float(text) if text else None for text in texts]
    except ValueError:
        return list(texts)


def _wandb(loggers: Sequence[Logger]) -> list[WandbLogger]:
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]
