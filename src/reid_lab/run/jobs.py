"""The jobs of a multirun, read from their folders."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from reid_lab.config.overrides import SPECIAL
from reid_lab.config.paths import LAST, last_checkpoint
from reid_lab.files.atomic import write_text
from reid_lab.files.stored import StoredFileError, printable, read_json, read_yaml
from reid_lab.results import Summary, results_of
from reid_lab.results.card import ModelCard

DONE, FAILED, UNFINISHED, NOT_STARTED = "done", "failed", "unfinished", "not started"
_STATUS = ".hydra/status.json"
_OVERRIDES = ".hydra/overrides.yaml"
# overrides that only a multirun has, and those that the command of a single job gives itself
_OF_A_SWEEP = re.compile(
    r"[+~]*hydra(/launcher|\.launcher|/sweeper|\.sweep|\.mode|\.run\.dir|\.job\.num)"
)
_METRIC = re.compile(r"test/(.+)/(rank1|mAP|weight)")


@dataclass(frozen=True)
class Job:
    """A job, as read from its folder; `exits` holds the figures of each exit, in order.

    `status` is not started, unfinished (still running, or ended with the whole multirun), failed,
    done, or no results. `command` repeats it alone.
    """

    number: int | str
    folder: Path
    overrides: dict[str, str]
    status: str
    error: str
    exits: dict[str, dict[str, object]]
    elapsed: object
    dataset: str = ""  # that it tested on
    card: ModelCard | None = None  # of the network that it tested
    command: str = ""

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read a job's folder; missing or broken parts are left empty."""
        state = _read_dict(folder / _STATUS)
        status = str(state.get("status", DONE))
        summary = _read_summary(folder) if status == DONE else Summary()
        return cls(
            number=state.get("job", folder.name),
            folder=folder,
            overrides=_read_overrides(folder / _OVERRIDES),
            status="no results" if status == DONE and not summary.content else status,
            error=str(state.get("error", "")),
            exits=_exits(summary),
            elapsed="" if summary.elapsed_s is None else summary.elapsed_s,
            dataset=str((summary.dataset or {}).get("name", "")),
            card=ModelCard.of(summary.card),
            command=str(state.get("command", "")),
        )

    @property
    def last_exit(self) -> dict[str, object]:
        """The figures of the last exit; empty without results."""
        return list(self.exits.values())[-1] if self.exits else {}

    def order(self) -> tuple[bool, int, Path]:
        number = str(self.number)
        counted = re.fullmatch("[0-9]{1,9}", number)
        return not counted, int(number) if counted else 0, self.folder

    def repeated_by(self) -> str:
        """The command that repeats a job alone, into its folder; empty if the job is done."""
        if self.status == DONE or not self.command:
            return ""
        resumed = last_checkpoint(self.folder).is_file()
        hint = f"  (and ckpt_path={LAST} to resume its training)" if resumed else ""
        return f"job {self.number}: {self.command}{hint}"


def read_jobs(sweep_dir: Path) -> list[Job]:
    """All jobs with a folder below the sweep folder, ordered by number."""
    jobs = [Job.read(path.parents[1]) for path in sweep_dir.rglob(_OVERRIDES)]
    return sorted(jobs, key=Job.order)


def plan_job(config: DictConfig, number: int, overrides: Sequence[str], folder: Path) -> None:
    """Write the status of a planned job to its folder, with the command that runs it alone.

    Args:
        config: config of the multirun.
        number: number of the job.
        overrides: overrides of the job, as given to its launcher.
        folder: absolute path of the job's folder.
    """
    # interpolations are the job's, and mean nothing here
    given = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    command = _command(config, overrides, cast("list[str]", given), number, folder)
    write_text(folder / _OVERRIDES, "".join(f"- {json.dumps(word)}\n" for word in overrides))
    _write_status(folder, number, NOT_STARTED, "", command, sweep_dir(config))


def write_status(config: DictConfig, status: str, error: str) -> None:
    """Write the status of a job to its folder, with the command that repeats it."""
    folder, number = Path(config.hydra.runtime.output_dir), config.hydra.job.num
    _write_status(folder, number, status, error, command_of(config), sweep_dir(config))


def _write_status(
    folder: Path, number: int, status: str, error: str, command: str, sweep: Path
) -> None:
    content = {"job": number, "status": status, "error": error}
    content |= {"command": command, "sweep": os.path.relpath(sweep, folder)}
    write_text(folder / _STATUS, json.dumps(content))


def repeat_status(folder: Path, status: str, error: str) -> None:
    """Update the status of a job that is repeated alone."""
    content = {**_read_dict(folder / _STATUS), "status": status, "error": error}
    write_text(folder / _STATUS, json.dumps(content))


def sweep_of(folder: Path) -> Path | None:
    """The folder of the sweep that `folder` is a job of; None if it is not a job's folder."""
    sweep = _read_dict(folder / _STATUS).get("sweep")
    return Path(os.path.normpath(folder / sweep)) if isinstance(sweep, str) else None


def sweep_dir(config: DictConfig) -> Path:
    """The sweep's folder in a job's config."""
    return Path(config.hydra.runtime.cwd, config.hydra.sweep.dir)


def command_of(config: DictConfig) -> str:
    """The command that runs a job of a multirun alone, into the same folder."""
    hydra = config.hydra
    given = hydra.overrides
    return _command(config, given.task, given.hydra, hydra.job.num, Path(hydra.runtime.output_dir))


def _command(
    config: DictConfig, task: Sequence[str], given: Sequence[str], number: int, folder: Path
) -> str:
    """The command of a job, from the overrides of its config (`task`) and of Hydra (`given`)."""
    runtime = config.hydra.runtime
    own = [word for word in given if not _OF_A_SWEEP.match(word)]
    if folder.is_relative_to(runtime.cwd):
        folder = folder.relative_to(runtime.cwd)
    value = str(folder)
    if SPECIAL.search(value):
        value = QuotedString(value, Quote.double).with_quotes()
    of_hydra = [f"hydra.job.num={number}", "hydra.mode=RUN", f"hydra.run.dir={value}"]
    added = [s.path for s in runtime.config_sources if s.provider == "command-line"]
    options = [word for path in added for word in ("--config-dir", path)]
    return shlex.join(["python", "-m", "reid_lab", *options, *task, *own, *of_hydra])


def _read_summary(folder: Path) -> Summary:
    try:
        return Summary.read(results_of(folder))
    except StoredFileError:
        return Summary()


def _exits(summary: Summary) -> dict[str, dict[str, object]]:
    costs, metrics = summary.content.get("mul_adds") or {}, summary.metrics or {}
    found = [(match, value) for k, value in metrics.items() if (match := _METRIC.fullmatch(k))]
    exits: dict[str, dict[str, object]] = {}
    references = [match[1] for match, _ in found if match[1] not in costs]
    for name in dict.fromkeys([*references, *costs]):  # the last exit comes last
        figures = {match[2]: value for match, value in found if match[1] == name}
        cost = {"mul_adds": costs[name]} if name in costs else {}
        exits[name] = figures | cost
    return exits


def _read_overrides(path: Path) -> dict[str, str]:
    try:
        lines = printable(read_yaml(path))
    except StoredFileError:
        lines = None
    pairs = [str(line).partition("=") for line in lines] if isinstance(lines, list) else []
    found = {key.lstrip("+"): value for key, _, value in pairs}
    if found.get("ckpt_path") == LAST:  # how it was run, not what it is
        del found["ckpt_path"]
    return found


def _read_dict(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = printable(read_json(path))
    except StoredFileError:
        return {}
    return content
