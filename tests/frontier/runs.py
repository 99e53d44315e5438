"""Run folders as the frontier finds them, with invented numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from reid_lab.results.rows.cost import CostRow

EXITS = {"early": (10e6, 0.5), "late": (20e6, 0.7)}


def make_run(
    folder: Path,
    name: str = "two",
    seed: int = 0,
    exits: Mapping[str, tuple[float, float]] = EXITS,
    lr: float = 0.1,
    dataset: str = "people",
    gallery: int = 50,
    costs: Sequence[Mapping[str, Any]] = (),
    policies: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    teacher: Path | None = None,
    protocol: Mapping[str, Any] | None = None,
    more: str = "",
    shared: str | None = None,
    bounds: Mapping[str, float] | None = None,
) -> Path:
    """`exits`: name -> Mul-Adds and Rank-1, mAP is 0.1 less; `policies`: the same by budget;
    `more`: lines of the config; `shared`: the exit whose gallery all exits use;
    `bounds`: columns of intervals, which older runs lack."""
    results = folder / "results"
    results.mkdir(parents=True)
    rows = [_exit(n, "exit", c, r, 128) for n, (c, r) in exits.items()]
    rows.append(_exit("hsv", "reference", 1000, 0.2, 768))
    _write(results / "exits.csv", [{**row, **(bounds or {})} for row in rows])
    stream = [_stream(p, c, r) for p, line in (policies or {}).items() for c, r in line]
    stream = [{**row, **(bounds or {})} for row in stream]
    if stream:
        _write(results / "stream.csv", stream)
    if costs:
        blank = {column.name: "" for column in fields(CostRow)}
        _write(results / "cost.csv", [{**blank, **row} for row in costs])
    summary = {
        "name": name,
        "seed": seed,
        "commit": f"c{seed}",
        "machine": "2 cores",
        "dataset": {"name": dataset, "gallery": {"images": gallery, "pids": 5}},
        "protocol": {"query": "single", **(protocol or {})},
    }
    if shared is not None:
        summary["shared_exit"] = shared
    (results / "summary.json").write_text(json.dumps(summary))
    teaching = f", teacher: {teacher}/checkpoints/last.ckpt" if teacher else ""
    place = json.dumps(str(folder))
    (folder / "config.yaml").write_text(
        f"name: {name}\nseed: {seed}\nrun_dir: {place}\n"
        f"model: {{lr: {lr}, seed: {seed}{teaching}}}\n"
        f"dataset: {{root: {place}, seed: {seed}, recipe: {{seed: 3}}}}\n{more}\n"
    )
    return folder


def cost_row(exit: str, latency: float, batch: int = 1, **more: Any) -> dict[str, Any]:
    row = {"exit": exit, "kind": "exit", "latency_p50_ms": latency, "latency_p95_ms": 2 * latency}
    row |= {"images_per_second": 1000 * batch / latency, "peak_memory_bytes": 1e6 * latency}
    row |= {"embedding_bytes": 512, "parameters": 7, "joules_per_image": "", "batch": batch}
    return row | {"threads": 1, "device": "cpu"} | more


def _exit(name: str, kind: str, cost: float, rank1: float, dim: int) -> dict[str, Any]:
    ranks = {f"rank{k}": rank1 for k in (1, 5, 10, 20)}
    counts = {"mINP": 0.1, "queries": 9, "skipped": 0}
    return {"name": name, "kind": kind, "mul_adds": int(cost), "dim": dim, "mAP": rank1 - 0.1} | (
        ranks | counts
    )


def _stream(policy: str, cost: float, rank1: float) -> dict[str, Any]:
    late = (cost - 10e6) / 10e6
    row = {"policy": policy, "planned": cost, "realised": cost, "a": 1.0, "rank1": rank1}
    return row | {"mAP": rank1 - 0.1, "share_early": 1 - late, "share_late": late}


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
