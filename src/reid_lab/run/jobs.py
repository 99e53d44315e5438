"""The jobs of a multirun, from what each left in its folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from reid_lab.files.atomic import write_text
from reid_lab.files.stored import StoredFileError, printable, read_json, read_yaml
from reid_lab.results import Summary, results_of
from reid_lab.results.card import ModelCard

_STATUS = ".hydra/status.json"
_OVERRIDES = ".hydra/overrides.yaml"
_METRIC = re.compile(r"test/(.+)/(rank1|mAP|weight)")


@dataclass(frozen=True)
class Job:
    """A job, as read from its folder; `exits` holds the figures of each exit, in order.

    `status` is done, failed, unfinished (still running, or killed), or no results.
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

    @classmethod
    def read(cls, folder: Path) -> Job:
        """Read a job's folder; missing or broken parts are left empty."""
        state = _read_dict(folder / _STATUS)
        status = str(state.get("status", "done"))
        summary = _read_summary(folder) if status == "done" else Summary()
        return cls(
            number=state.get("job", folder.name),
            folder=folder,
            overrides=_read_overrides(folder / _OVERRIDES),
            status="no results" if status == "done" and not summary.content else status,
            error=str(state.get("error", "")),
            exits=_exits(summary),
            elapsed="" if summary.elapsed_s is None else summary.elapsed_s,
            dataset=str((summary.dataset or {}).get("name", "")),
            card=ModelCard.of(summary.card),
        )

    def order(self) -> tuple[bool, int, Path]:
        number = str(self.number)
        counted = re.fullmatch("[0-9]{1,9}", number)
        return not counted, int(number) if counted else 0, self.folder


def read_jobs(sweep_dir: Path) -> list[Job]:
    """All jobs that have a folder below the sweep folder, in the order of their numbers."""
    jobs = [Job.read(path.parents[1]) for path in sweep_dir.rglob(_OVERRIDES)]
    return sorted(jobs, key=Job.order)


def write_status(config: DictConfig, status: str, error: str = "") -> None:
    """Leave in a job's folder how far it has come."""
    path = Path(config.hydra.runtime.output_dir, _STATUS)
    content = {"job": config.hydra.job.num, "status": status, "error": error}
    write_text(path, json.dumps(content))


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
    return {key.lstrip("+"): value for key, _, value in pairs}


def _read_dict(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = printable(read_json(path))
    except StoredFileError:
        return {}
    return content
