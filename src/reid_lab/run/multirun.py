"""A table of all runs of a multirun: `runs.csv` in the sweep folder, and a short one to show.

`means.csv` has means and deviations over seeds or splits, by exit, for settings with several. A
sweep that names one of its keys as the axis `x` gets two plots beside it; one over checkpoints and
data sets with `transfer` their matrix.

Everything is collected from the jobs' folders, whatever the process or machine of a job, and
however it ended. A job that is repeated alone completes the table.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, TypeGuard

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.filesize import pick_unit_and_suffix
from rich.markup import escape
from rich.table import Table

from reid_lab.compat.hydra import error_of
from reid_lab.files.stored import StoredFileError, read_config
from reid_lab.results.card import ModelCard
from reid_lab.results.rows.multirun import MEANS, RUNS, MeanRow, RunRow
from reid_lab.run.jobs import (
    DONE,
    FAILED,
    UNFINISHED,
    Job,
    read_jobs,
    repeat_status,
    sweep_dir,
    sweep_of,
    write_status,
)
from reid_lab.run.launching import watch_launcher

if TYPE_CHECKING:
    from reid_lab.report.sweep import Swept
    from reid_lab.report.transfer import TransferCell

log = logging.getLogger(__name__)
REPEATED = ("seed", "dataset.reader.split")  # keys whose values are trials of one setting
_pending: tuple[Path, RunsTable] | None = None  # a multirun whose table is not printed yet


class RunsTable(Callback):
    """Hydra callback that keeps `runs.csv` up to date.

    Hydra skips `on_multirun_end` if a job failed, so the program takes and shows the table at the
    end, see `take_pending`.

    Args:
        x: the swept key on the plots' axis, such as model.temperature; None draws no plots.
        lines: the key with a line for each of its values.
        compare: label -> folder of a run, drawn as a horizontal line, or of another sweep over `x`
            or over one other key, drawn as one more line.
        exits: plot mean and deviation of every exit, one line per setting.
        transfer: write the matrix of accuracies, trained on x tested on, as `transfer.csv` and
            plots.
    """

    def __init__(
        self,
        x: str | None = None,
        lines: str | None = None,
        compare: Mapping[str, str] | None = None,
        exits: bool = False,
        transfer: bool = False,
    ) -> None:
        self.exits, self.transfer = exits, transfer
        self.x, self.lines, self.compare = x, lines, dict(compare or {})

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        global _pending
        _pending = sweep_dir(config), self
        watch_launcher()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._note(config, UNFINISHED)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status == JobStatus.COMPLETED:
            sweep = self._note(config, DONE)
        else:
            error = error_of(job_return)
            sweep = self._note(config, FAILED, _class_and_message(error))
            job_return.return_value = _portable(error)
            job = Job.read(Path(config.hydra.runtime.output_dir))
            if sweep and job.command:
                log.error("%s\nrepeat it alone: %s", job.error, job.repeated_by())
        if sweep:
            write_csv(sweep)

    def _note(self, config: DictConfig, status: str, error: str = "") -> Path | None:
        """Write the status of a job, even if it is repeated alone.

        Returns:
            The sweep's folder; None for a run outside of a sweep, and in all processes but the
            first.
        """
        global _pending
        if not _is_first():
            return None
        if config.hydra.mode == RunMode.MULTIRUN:
            write_status(config, status, error)
            return sweep_dir(config)
        folder = Path(config.hydra.runtime.output_dir)
        sweep = sweep_of(folder)
        if sweep:
            repeat_status(folder, status, error)
            _pending = sweep, self
        return sweep

    def draw(self, sweep_dir: Path, jobs: list[Job]) -> list[Path]:
        """Plot the last exit of the runs with results; nothing without axis or matrix."""
        written = []
        if self.transfer:
            from reid_lab.report.transfer import write_transfer  # matplotlib is slow to import

            written = write_transfer(sweep_dir, transfer_cells(jobs))
        if self.exits:
            from reid_lab.report.sweep import write_exits

            written = written + write_exits(sweep_dir, mean_rows(jobs))
        return written + self._draw_axis(sweep_dir, jobs)

    def _draw_axis(self, sweep_dir: Path, jobs: list[Job]) -> list[Path]:
        if self.x is None:
            return []
        from reid_lab.report.sweep import write_sweep  # matplotlib is slow to import

        points = [point for job in jobs if (point := _swept(job, self.x, self.lines))]
        levels: dict[str, Swept] = {}
        others: dict[str, list[Swept]] = {}
        for label, given in self.compare.items():
            folder = Path(given).expanduser()
            if level := _swept(Job.read(folder), None, None):
                levels[label] = level
            elif line := _other_line(read_jobs(folder), self.x):
                others[label] = line
            else:
                log.warning("%s: no results, or of several keys: %s is not drawn", folder, label)
        return write_sweep(sweep_dir, points, self.x, self.lines or "", levels, others)


def take_pending() -> tuple[Path, RunsTable] | None:
    """The folder and the table of this process's multirun, once; None if there is none."""
    global _pending
    taken, _pending = _pending, None
    return taken


def write_csv(folder: Path) -> list[Job]:
    """Collect the jobs of a sweep folder into its `runs.csv`, and return them."""
    jobs = read_jobs(folder)
    if jobs:
        differing = _differing(jobs)
        # at once, as jobs in other processes write it, too
        RUNS.write(folder / RUNS.file, [_row(job, folder, differing) for job in jobs])
        means = mean_rows(jobs)
        if any(row.runs > 1 for row in means):
            MEANS.write(folder / MEANS.file, means)
    return jobs


def mean_rows(jobs: Sequence[Job]) -> list[MeanRow]:
    """Means and deviations of the jobs that differ in `REPEATED` keys only, by exit and figure."""
    keys = [key for key in _differing(list(jobs)) if key not in REPEATED]
    found: dict[tuple[tuple[str, ...], str, str], list[float]] = defaultdict(list)
    for job in jobs:
        setting = tuple(job.overrides.get(key, "") for key in keys)
        for exit, values in job.exits.items():
            for metric, value in values.items():
                if _is_number(value):
                    found[setting, exit, metric].append(value)
    return [
        MeanRow(
            settings=dict(zip(keys, setting, strict=True)),
            exit=exit,
            metric=metric,
            runs=len(values),
            mean=fmean(values),
            deviation=stdev(values) if len(values) > 1 else math.nan,
        )
        for (setting, exit, metric), values in found.items()
    ]


def _row(job: Job, sweep_dir: Path, differing: list[str]) -> RunRow:
    figures = {
        f"{name}/{key}": value
        for name, values in job.exits.items()
        for key, value in values.items()
        if _is_number(value)
    }
    return RunRow(
        job=str(job.number),
        settings={key: job.overrides.get(key, "") for key in differing},
        status=job.status,
        figures=figures,
        elapsed_s=job.elapsed if _is_number(job.elapsed) else math.nan,
        folder=job.folder.relative_to(sweep_dir).as_posix(),
        error=job.error,
    )


def runs_table(jobs: list[Job]) -> Table:
    """The figures of the last exit of each job."""
    differing = _differing(jobs)
    table = Table(title="Runs (figures of the last exit)")
    for name in ["job", *differing, "status"]:
        table.add_column(escape(name), overflow="fold")
    for name in ["rank1", "mAP", "mul-adds", "elapsed"]:
        table.add_column(name, justify="right")
    table.add_column("folder", overflow="fold")
    for job in jobs:
        last = job.last_exit
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
        style = "" if job.status == DONE else "red"
        table.add_row(*map(escape, cells), style=style)
    return table


def _swept(job: Job, x: str | None, lines: str | None) -> Swept | None:
    """A job's last exit as a point of the plots; None if part of it is missing."""
    from reid_lab.report.sweep import Swept

    known = all(key is None or key in job.overrides for key in (x, lines))
    rank1, mean = job.last_exit.get("rank1"), job.last_exit.get("mAP")
    if not known or not _is_number(rank1) or not _is_number(mean):
        return None
    return Swept(job.overrides.get(x or "", ""), job.overrides.get(lines or "", ""), rank1, mean)


def _other_line(jobs: list[Job], x: str) -> list[Swept]:
    """The jobs of another sweep as a line over `x`, or over the only key that differs there."""
    keys = [key for key in _differing(jobs) if key not in REPEATED]
    if x not in keys and len(keys) == 1:
        x = keys[0]
    return [point for job in jobs if (point := _swept(job, x, None))]


def transfer_cells(jobs: Sequence[Job]) -> list[TransferCell]:
    """The jobs that tested a checkpoint, as cells of the matrix.

    Rows are labelled by the data set of the checkpoint's card, columns by the name of the one
    that was tested; equal names are distinguished by recipe and path, or by the overrides.
    """
    from reid_lab.report.transfer import TransferCell, distinct

    tested = []
    for job in jobs:
        rank1, mean = job.last_exit.get("rank1"), job.last_exit.get("mAP")
        checkpoint = job.overrides.get("ckpt_path", "")
        if _is_number(rank1) and _is_number(mean) and checkpoint:
            tested.append((job, checkpoint, rank1, mean))
    cards = [job.card or ModelCard() for job, *_ in tested]
    paths = [checkpoint for _, checkpoint, *_ in tested]
    trained = distinct([card.data for card in cards], [card.recipe for card in cards], paths)
    trained = distinct(trained, paths, paths)
    differing = _differing([job for job, *_ in tested])
    differing = [key for key in differing if key.startswith("dataset")]
    on = [_on(job, differing) for job, *_ in tested]
    names = [job.dataset for job, *_ in tested]
    columns = distinct(names, on, on)
    several = {name for name, column in zip(names, columns, strict=True) if name != column}
    return [
        TransferCell(
            row,
            column,
            checkpoint,
            rank1,
            mean,
            card.data == job.dataset
            and (job.dataset not in several or _same_images(checkpoint, job.folder)),
        )
        for row, column, card, (job, checkpoint, rank1, mean) in zip(
            trained, columns, cards, tested, strict=True
        )
    ]


def _on(job: Job, keys: Sequence[str]) -> str:
    """Name of the data set that a job tested on, from the overrides in which the jobs differ."""
    given = {key: value for key in keys if (value := job.overrides.get(key)) is not None}
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in given.items())


def _same_images(checkpoint: str, folder: Path) -> bool:
    """Whether a checkpoint's run read the same folder in the same way as the run in `folder`."""
    try:
        runs = [read_config(Path(checkpoint).parents[1]), read_config(folder)]
    except (StoredFileError, IndexError):  # converted, or moved: unknown
        return False
    ours, other = [run.get("dataset") for run in runs]
    if not isinstance(ours, dict) or not isinstance(other, dict):
        return False
    return all(ours.get(key) == other.get(key) for key in ("root", "reader"))


def _differing(jobs: list[Job]) -> list[str]:
    """The overrides that are not the same in all jobs."""
    keys = dict.fromkeys(key for job in jobs for key in job.overrides)
    return [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]


def _is_first() -> bool:
    """Whether this is the first of a job's processes, on any machine."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def _class_and_message(error: BaseException) -> str:
    """Class and message of an error, as a traceback ends; the first line of a longer message."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")


def _portable(error: BaseException) -> BaseException:
    """The error, or one with its text if it cannot be sent to the multirun's process.

    Otherwise it would end joblib's pool and all of its jobs.
    """
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(_class_and_message(error)).with_traceback(error.__traceback__)
    return error


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: object, form: str) -> str:
    return form.format(value) if _is_number(value) else ""


def _count(value: object) -> str:
    if not isinstance(value, int) or value < 0:
        return ""
    unit, suffix = pick_unit_and_suffix(value, ["", " K", " M", " G", " T"], 1000)
    return f"{value / unit:.3g}{suffix}"
