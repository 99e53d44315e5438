"""Accuracy by cost of the served network, from the test of its training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reid_lab.errors import UserError
from reid_lab.results.folder import results_of
from reid_lab.results.rows.accuracy import EXITS, ExitRow
from reid_lab.results.rows.budget import STREAM
from reid_lab.runtime.manifest import Manifest


@dataclass(frozen=True)
class ServedAccuracy:
    """Mean Mul-Adds per query, and the accuracy at this cost; `exit` is empty for a stream."""

    exit: str
    mul_adds: float
    rank1: float
    mAP: float  # noqa: N815


def read_frontier(run: Path, manifest: Manifest, policy: str) -> list[ServedAccuracy]:
    """The exits of a run's test, and its stream with `policy`, cheapest first.

    Raises:
        UserError: no test, one of several views, or of another network than the export.
        StoredFileError: a malformed table.
    """
    folder = results_of(run)
    rows = [row for row in EXITS.read(folder / EXITS.file) if row.kind == "exit"]
    if not rows:
        raise UserError(
            f"{run} has no results of a test: give the folder of a run that ended, or run "
            "python -m reid_lab task=test ckpt_path=CHECKPOINT hydra.run.dir=RUN"
        )
    _check(run, rows, manifest)
    stream = [row for row in STREAM.read(folder / STREAM.file) if row.policy == policy]
    points = [ServedAccuracy(row.name, row.mul_adds, row.rank1, row.mAP) for row in rows]
    points += [ServedAccuracy("", row.realised, row.rank1, row.mAP) for row in stream]
    return sorted(points, key=lambda point: point.mul_adds)


def _check(run: Path, rows: list[ExitRow], manifest: Manifest) -> None:
    if views := max(row.views for row in rows) - 1:
        raise UserError(
            f"{run} was tested with {views + 1} views of an image, the service embeds one: test "
            "it with dataset.transforms.test_views=1"
        )
    ours = {e.name: e.mul_adds for e in manifest.exits}
    for row in rows:
        if ours.get(row.name) != row.mul_adds:
            cost = f"{ours[row.name]:,} Mul-Adds" if row.name in ours else "no such exit"
            raise UserError(
                f"exit {row.name} of {run} costs {row.mul_adds:,} Mul-Adds, the export has {cost}: "
                "give the run that the export was made from"
            )
