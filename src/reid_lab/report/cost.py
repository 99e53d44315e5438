"""The cost account of a run: one record a line of `cost.csv`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CostRow:
    """One line of `cost.csv`; what is not known is nan.

    Bytes, milliseconds, joules; cumulative up to the exit. `mul_adds`, `peak_memory_bytes`,
    `latency_*_ms` and `joules_per_image` are of one image with all its `views`.
    """

    exit: str
    kind: str
    mul_adds: float
    parameters: float
    weight_bytes: float
    peak_memory_bytes: float
    dim: int
    embedding_bytes: float
    gallery: int
    gallery_bytes: float
    matching_mul_adds: float
    latency_p50_ms: float
    latency_p95_ms: float
    images_per_second: float
    joules_per_image: float
    batch: int
    views: int
    repeats: int
    batch_repeats: int
    device: str
    threads: int
    allocator: str
    precision: str
