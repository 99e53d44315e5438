"""The rows of the tables of cost, and these tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reid_lab.results.rows.common import require_numbers
from reid_lab.results.table import Table


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """`cost.csv`: costs of an exit on one machine; nan if unknown.

    Bytes, milliseconds, joules; cumulative up to the exit. `mul_adds`, `peak_memory_bytes`,
    `latency_*_ms`, `images_per_second` and `joules_per_image` are for one view of an image (`per`
    is `view`); in older runs for an image with all its `views` at once (`image`).

    For an export (`reid-lab export --to`): `format`, `file_bytes` of the files opened for the exit,
    and `process_bytes`, the peak memory of a process that embedded single images, with its
    libraries.
    """

    exit: str
    kind: str
    mul_adds: float
    parameters: float
    weight_bytes: float
    peak_memory_bytes: float
    dim: int
    embedding_bytes: float
    gallery: int | None
    gallery_bytes: float
    matching_mul_adds: float
    latency_p50_ms: float
    latency_p95_ms: float
    images_per_second: float
    repeats: int
    batch_repeats: int
    joules_per_image: float
    batch: int
    views: int
    device: str
    threads: int
    allocator: str
    precision: str
    per: str = "image"
    format: str = "pytorch"
    file_bytes: float = math.nan
    process_bytes: float = math.nan


@dataclass(frozen=True, kw_only=True)
class ProfileRow:
    """`profile.csv`, beside a checkpoint: what a query costs at an exit, measured on one machine.

    Milliseconds and joules of a query among `batch`: `network_*` up to the exit, `matching_*` of
    one search of a gallery of so many images at that exit. `overhead_ms`: of early exit, for each
    exit that a query reaches; nan in older files and without early exit. Unknown energy is nan.
    """

    exit: str
    batch: int
    network_ms: float
    matching_ms: float
    network_joules: float
    matching_joules: float
    gallery: int
    mul_adds: int
    passes: int
    machine: str
    device: str
    threads: int
    allocator: str
    precision: str
    overhead_ms: float = math.nan


def _profile(rows: list[ProfileRow]) -> list[ProfileRow]:
    for number, row in enumerate(rows, 1):
        if row.batch < 1 or row.gallery < 1:
            raise ValueError(f"row {number}: batch and gallery are at least 1")
        if not row.network_ms > 0:
            raise ValueError(f"row {number}: network_ms is {row.network_ms:g}, not above 0")
    return require_numbers(rows, "matching_ms")


COST = Table("cost.csv", CostRow)
PROFILE = Table("profile.csv", ProfileRow, check=_profile)
