"""A saved W&B workspace, and the frontier as its table.

Needs the extra `dashboard` (wandb-workspaces).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from reid_lab.errors import UserError, with_options
from reid_lab.files.outputs import check_writable
from reid_lab.files.tables import write_json
from reid_lab.frontier.points import FRONTIER, Point, pareto_columns, read_points
from reid_lab.optional import load
from reid_lab.output.arguments import path_or_none, texts
from reid_lab.run.publish import wandb_table

TIMEOUT = 10  # seconds to wait for W&B's first response
TABLE = "frontier"  # the key of the frontier's table
# settings that distinguish runs, and their results
CONFIG = ("kind.model", "kind.backbone", "kind.dataset", "model.lr", "model.iterations", "seed")
REACHED = ("best/mul_adds", "best/mAP", "best/rank1")
LOGARITHMIC = {"model.lr", "best/mul_adds"}


class DashboardError(UserError):
    """W&B cannot be reached, or a package is missing."""


def workspace(entity: str, project: str, columns: Sequence[str] = CONFIG) -> Any:
    """The panels: training curves, parallel coordinates over `columns`, accuracy against cost.

    Builds the definition only; `save()` on it sends it.

    Raises:
        DashboardError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise DashboardError(
            f"wandb-workspaces cannot be imported ({error}): pip install 'reid-lab[dashboard]'"
        ) from error
    step = "trainer/global_step"
    curves: list[Any] = [
        wr.LinePlot(title="Training loss", x=step, y=["train/loss"], smoothing_factor=0.6),
        wr.LinePlot(title="Validation Rank-1 by exit", x=step, metric_regex="val/.*/rank1"),
        wr.LinePlot(title="Validation mAP by exit", x=step, metric_regex="val/.*/mAP"),
        wr.LinePlot(title="Images/s", x=step, y=["train/images_per_second"]),
    ]
    axes: list[tuple[Any, str]] = [(wr.Config(name), name) for name in columns]
    axes += [(wr.SummaryMetric(name), name) for name in REACHED]
    sweep: Any = wr.ParallelCoordinatesPlot(
        title="Settings and results",
        columns=[
            wr.ParallelCoordinatesPlotColumn(metric=metric, display_name=name, log=log)
            for metric, name in axes
            for log in [name in LOGARITHMIC or None]
        ],
    )
    cost, reached = wr.SummaryMetric("best/mul_adds"), wr.SummaryMetric("best/rank1")
    worth: list[Any] = [
        wr.ScatterPlot(title="Best exit of each run", x=cost, y=reached, log_x=True),
        *(_chart(wr, metric) for metric in ("rank1", "mAP")),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name="reid_lab",
        sections=[
            ws.Section(name="Accuracy against cost", panels=worth, is_open=True),
            ws.Section(name="Sweep", panels=[sweep], is_open=True),
            ws.Section(name="Training", panels=curves, is_open=True),
        ],
    )


def _chart(wr: Any, metric: str) -> Any:
    """The frontier table as W&B's scatter plot."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": TABLE}},
        chart_name="wandb/scatter/v0",
        chart_fields={"x": "mul_adds", "y": metric},
        chart_strings={"title": f"Frontier: {metric} against Mul-Adds"},
    )


def workspace_spec(view: Any) -> dict[str, Any]:
    """A workspace as the JSON that W&B stores, without the random ids."""
    content = view._to_model().model_dump(by_alias=True, exclude_none=True, mode="json")
    result: dict[str, Any] = _without_ids(content)
    return result


def _without_ids(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _without_ids(value) for key, value in node.items() if key != "__id__"}
    if isinstance(node, list):
        return [_without_ids(value) for value in node]
    return node


def log_frontier(
    points: Sequence[Point], folder: Path, entity: str | None, project: str, offline: bool
) -> None:
    """Log the frontier's table and a scatter plot per metric to a W&B run.

    Args:
        folder: parent of W&B's folder `wandb/`.
    """
    import wandb

    marks = pareto_columns(points)
    rows = [replace(p, pareto=mark) for p, mark in zip(points, marks, strict=True)]
    mode: Any = "offline" if offline else "online"
    settings = wandb.Settings(init_timeout=6 * TIMEOUT)
    with wandb.init(
        entity=entity,
        project=project,
        name="frontier",
        job_type="frontier",
        mode=mode,
        dir=folder,
        settings=settings,
    ) as run:
        charts = {
            f"frontier_{metric}": wandb.plot.scatter(
                wandb_table(FRONTIER, rows), "mul_adds", metric, title=f"Frontier: {metric}"
            )
            for metric in ("rank1", "mAP")
        }
        run.log({TABLE: wandb_table(FRONTIER, rows), **charts})


def check_connection() -> None:
    """Check that W&B can be reached with an API key, before any work.

    Raises:
        DashboardError: it does not, or there is no key.
    """
    url = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), TIMEOUT).close()
    except OSError as error:
        text = f"{url.geturl()} does not answer ({error}); nothing was sent."
        raise with_options(
            DashboardError(f"{text} spec=FILE writes the workspace without it"),
            f"{text} --spec FILE writes the workspace without it",
        ) from error
    import wandb

    if not wandb.Api(timeout=TIMEOUT).api_key:
        raise DashboardError("no API key for W&B: run `wandb login`, or set WANDB_API_KEY")


def save_workspace(
    entity: str,
    project: str,
    *,
    frontier: Path | str | None = None,
    columns: Sequence[str] = CONFIG,
    spec: Path | str | None = None,
) -> Path | None:
    """Save a W&B workspace for the runs of a project, and log the frontier's table.

    Args:
        entity: user or team of W&B.
        project: W&B project.
        frontier: a `frontier.csv` to log as a table.
        columns: config keys for the parallel coordinates.
        spec: write the workspace to this JSON file, and send nothing.

    Returns:
        `spec`; None if the workspace was sent.

    Raises:
        DashboardError: W&B cannot be reached, has no API key or refuses the workspace.
        MissingPackageError: wandb is not installed.
        FrontierError: `frontier` is not a table of `reid-lab frontier`.
    """
    wandb = load("wandb", "the dashboard")
    for name, given in (("entity", entity), ("project", project)):
        if not isinstance(given, str) or not re.fullmatch(r"[^/\s]+", given):
            raise UserError(f"{name}={given!r}: give a name without spaces and slashes")
    spec = path_or_none("spec", spec)
    if spec is not None:
        check_writable(spec)
    view = workspace(entity, project, texts("columns", columns) or CONFIG)
    table = path_or_none("frontier", frontier)
    points = [] if table is None else read_points(table)  # before anything is sent
    if spec is not None:
        write_json(spec, workspace_spec(view))
        return spec
    check_connection()
    try:
        if table is not None:
            log_frontier(points, table.parent, entity, project, offline=False)
        view.save()
    except wandb.Error as error:
        raise DashboardError(str(error)) from error
    return None
