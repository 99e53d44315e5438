"""The rows of the tables of a multirun, and these tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from reid_lab.results.cells import Share, Signed
from reid_lab.results.table import Table


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """`runs.csv` of a multirun: a job, the overrides in which jobs differ, its figures by exit.

    `figures`: EXIT/rank1, EXIT/mAP, EXIT/weight and EXIT/mul_adds. `folder` is relative to the
    sweep's.
    """

    job: str
    settings: dict[str, str] = field(default_factory=dict)
    status: str
    figures: dict[str, Signed] = field(default_factory=dict)
    elapsed_s: float  # of all parts of a job that was resumed
    folder: str
    error: str


@dataclass(frozen=True, kw_only=True)
class MeanRow:
    """`means.csv` of a multirun: an exit's figure over the runs that differ in seed or split only.

    `deviation`: the sample standard deviation; nan for a single run.
    """

    settings: dict[str, str] = field(default_factory=dict)
    exit: str
    metric: str
    runs: int
    mean: Signed
    deviation: Signed


@dataclass(frozen=True, kw_only=True)
class TransferRow:
    """`transfer.csv` of a multirun: a checkpoint's accuracy at its last exit on each data set.

    `figures`: DATASET/rank1 and DATASET/mAP, means if several jobs tested the same.
    """

    trained_on: str
    checkpoint: str
    figures: dict[str, Share] = field(default_factory=dict)


RUNS = Table("runs.csv", RunRow, {"figures": "*/*", "settings": "*"})
MEANS = Table("means.csv", MeanRow, {"settings": "*"})
TRANSFER = Table("transfer.csv", TransferRow, {"figures": "*/*"})
