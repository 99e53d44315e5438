"""One table of all runs of a multirun: `runs.csv` in the sweep folder, and a short one printed.

Everything is collected from the jobs' folders, so that it does not matter in which process or on
which machine a job ran, nor how it ended.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console
from rich.filesize import pick_unit_and_suffix
from rich.markup import escape
from rich.table import Table

CSV_NAME = "runs.csv"
_STATUS = ".hydra/status.json"
_OVERRIDES = ".hydra/overrides.yaml"
_SUMMARY = "results/summary.json"
_METRIC = re.compile(r"test/(.+)/(rank1|mAP)")
_pending: Path | None = None  # the sweep folder of a multirun whose table is not printed yet


class RunsTable(Callback):
    """Hydra callback that keeps `runs.csv` up to date, and prints the table at the end.

    Hydra leaves out `on_multirun_end` when a job failed, so the program has to call
    `print_pending` last.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        global _pending
        _pending = _sweep_dir(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            _write_status(config, "unfinished")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        if job_return.status == JobStatus.COMPLETED:
            _write_status(config, "done")
        else:
            _write_status(config, "failed", _last_line(job_return._return_value))
        write_csv(_sweep_dir(config))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        print_pending()


def print_pending() -> None:
    """Print the table of this process's multirun, unless there is none or it is printed already."""
    global _pending
    folder, _pending = _pending, None
    jobs = write_csv(folder) if folder is not None else []
    if jobs:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(_table(jobs))
        console.print(f"All figures: {folder}/{CSV_NAME}", soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Job:
    """What a job's folder tells of it; `exits` holds the figures of each exit, the last one last.

    `status` is done, failed, unfinished (still running, or killed), or no results.
    """

    number: int | str
    folder: Path
    overrides: dict[str, str]
    status: str
    error: str
    exits: dict[str, dict[str, object]]
    elapsed: object

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read a job's folder; whatever is missing or broken there is left empty."""
        state = _read_dict(folder / _STATUS)
        status = str(state.get("status", "done"))
        summary = _read_dict(folder / _SUMMARY) if status == "done" else {}
        return cls(
            number=state.get("job", folder.name),
            folder=folder,
            overrides=_read_overrides(folder / _OVERRIDES),
            status="no results" if status == "done" and not summary else status,
            error=str(state.get("error", "")),
            exits=_exits(summary),
            elapsed=summary.get("elapsed_s", ""),
        )

    def order(self) -> tuple[bool, int, Path]:
        number = str(self.number)
        return not number.isdecimal(), int(number) if number.isdecimal() else 0, self.folder


def read_jobs(sweep_dir: Path) -> list[Job]:
    """All jobs that have a folder below the sweep folder, in the order of their numbers."""
    jobs = [Job.read(path.parents[1]) for path in sweep_dir.rglob(_OVERRIDES)]
    return sorted(jobs, key=Job.order)


def write_csv(sweep_dir: Path) -> list[Job]:
    """Collect the jobs of a sweep folder into its `runs.csv`, and return them."""
    jobs = read_jobs(sweep_dir)
    if not jobs:
        return jobs
    differing = _differing(jobs)
    rows = [_csv_row(job, sweep_dir, differing) for job in jobs]
    figures = [name for row in rows for name in row if "/" in name and name not in differing]
    ends = ["elapsed_s", "folder", "error"]
    columns = dict.fromkeys(["job", *differing, "status", *figures, *ends])
    part = sweep_dir / f".{CSV_NAME}.{os.getpid()}"
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    part.replace(sweep_dir / CSV_NAME)  # at once, as jobs in other processes write it, too
    return jobs


def _csv_row(job: Job, sweep_dir: Path, differing: list[str]) -> dict[str, object]:
    figures = {f"{name}/{k}": v for name, values in job.exits.items() for k, v in values.items()}
    return {
        "job": job.number,
        **{key: job.overrides.get(key, "") for key in differing},
        "status": job.status,
        **figures,
        "elapsed_s": job.elapsed,
        "folder": job.folder.relative_to(sweep_dir).as_posix(),
        "error": job.error,
    }


def _table(jobs: list[Job]) -> Table:
    differing = _differing(jobs)
    table = Table(title="Runs (figures of the last exit)")
    for name in ["job", *differing, "status"]:
        table.add_column(escape(name), overflow="fold")
    for name in ["rank1", "mAP", "mul-adds", "elapsed"]:
        table.add_column(name, justify="right")
    table.add_column("folder", overflow="fold")
    for job in jobs:
        last = list(job.exits.values())[-1] if job.exits else {}
        cells = [
            str(job.number),
            *(job.overrides.get(key, "") for key in differing),
            f"{job.status}: {job.error}" if job.error else job.status,
            _number(last.get("rank1"), "{:.1%}"),
            _number(last.get("mAP"), "{:.1%}"),
            _count(last.get("mul_adds")),
            _number(job.elapsed, "{:.1f} s"),
            job.folder.name,
        ]
        style = "" if job.status == "done" else "red"
        table.add_row(*map(escape, cells), style=style)
    return table


def _exits(summary: dict[str, Any]) -> dict[str, dict[str, object]]:
    costs, metrics = _as_dict(summary.get("mul_adds")), _as_dict(summary.get("metrics"))
    found = [(match, value) for k, value in metrics.items() if (match := _METRIC.fullmatch(k))]
    exits: dict[str, dict[str, object]] = {}
    references = [match[1] for match, _ in found if match[1] not in costs]
    for name in dict.fromkeys([*references, *costs]):  # the last exit comes last
        figures = {match[2]: value for match, value in found if match[1] == name}
        cost = {"mul_adds": costs[name]} if name in costs else {}
        exits[name] = figures | cost
    return exits


def _differing(jobs: list[Job]) -> list[str]:
    """The overrides that are not the same in all jobs."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def _read_overrides(path: Path) -> dict[str, str]:
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        lines = None
    pairs = [str(line).partition("=") for line in lines] if isinstance(lines, list) else []
    return {key.lstrip("+"): value for key, _, value in pairs}


def _read_dict(path: Path) -> dict[str, Any]:
    try:
        return _as_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write_status(config: DictConfig, status: str, error: str = "") -> None:
    path = Path(config.hydra.runtime.output_dir, _STATUS)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"job": config.hydra.job.num, "status": status, "error": error}
    path.write_text(json.dumps(content), encoding="utf-8")


def _sweep_dir(config: DictConfig) -> Path:
    return Path(config.hydra.runtime.cwd, config.hydra.sweep.dir)


def _last_line(error: BaseException) -> str:
    """The line that ends a traceback; the first one of a message that has many."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else ""


def _count(value: object) -> str:
    if not isinstance(value, int):
        return ""
    unit, suffix = pick_unit_and_suffix(value, ["", " K", " M", " G", " T"], 1000)
    return f"{value / unit:.3g}{suffix}"
