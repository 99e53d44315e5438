"""Benchmark of networks that stop at an exit: time, deadlines, planned and realised cost.

python -m experiments.bench_early_exit [CHECKPOINT] [--people FOLDER]

Without a checkpoint, two sizes of DaRe with random weights are measured. The section `drift` needs
both CHECKPOINT and --people.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from experiments.bench_early_exit.clock import clock
from experiments.bench_early_exit.deadlines import deadlines
from experiments.bench_early_exit.drift import drift
from experiments.bench_early_exit.models import BenchNetwork, networks
from experiments.bench_early_exit.overhead import overhead
from experiments.bench_early_exit.ratios import compare
from experiments.tables import read, write
from reid_lab.budget.steps import steady_rows
from reid_lab.cost.allocator import keep_blocks
from reid_lab.results.provenance import commit, machine

SECTIONS = ("ratios", "overhead", "clock", "bits", "deadlines", "drift")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench_early_exit")
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", help="of a run; default: random weights"
    )
    parser.add_argument("--people", type=Path, help="a folder in Market-1501's layout, for drift")
    parser.add_argument(
        "--only", choices=SECTIONS, action="append", help="sections; all by default"
    )
    parser.add_argument("--policy", default="margin", choices=["random", "distance", "margin"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--network", help="only those whose name has this in it")
    parser.add_argument("--csv", type=Path, help="add the rows to a file, of one section")
    parser.add_argument(
        "--stream", type=int, default=128, help="queries of a stream, for overhead and clock"
    )
    parser.add_argument("--seeds", type=int, default=20, help="streams at each budget, for clock")
    parser.add_argument(
        "--seconds", type=float, default=30, help="CPU time of the profile, for clock"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--queries", type=int, default=1000, help="number of queries with a deadline"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    console = Console(width=120)
    console.print(f"{machine()}, 1 thread; torch {torch.__version__}; commit {commit()}")
    sections = args.only or SECTIONS
    keep_blocks()
    every = networks(args.checkpoint)
    chosen = [network for network in every if (args.network or "") in network.name]
    if not chosen:
        names = "; ".join(network.name for network in every)
        raise SystemExit(f"--network {args.network}: give a part of one of these names: {names}")
    for network in chosen:
        console.rule(network.name)
        for name in sections:
            rows = _section(name, network, args)
            console.print(_table(name, rows) if rows else f"{name}: needs CHECKPOINT and --people")
            if args.csv and rows:
                _append(args.csv, rows)


def _section(
    name: str, network: BenchNetwork, args: argparse.Namespace
) -> Sequence[Mapping[str, Any]]:
    """The rows of one section; none if its arguments are missing."""
    if name == "ratios":
        by_batch = [compare(network, args.policy, batch, args.rounds) for batch in args.batch]
        return [row for rows in by_batch for row in rows]
    if name == "overhead":
        rounds = [
            overhead(network, args.policy, batch, args.rounds, args.stream) for batch in args.batch
        ]
        return [row for rows in rounds for row in rows]
    if name == "clock":
        seeds, seconds = args.seeds, args.seconds
        curves = [
            clock(network, args.policy, batch, seeds, args.stream, seconds) for batch in args.batch
        ]
        return [row for rows in curves for row in rows]
    if name == "bits":
        return [{"steady_rows": steady_rows(network.model, network.images(34)), "of": 34}]
    if name == "deadlines":
        return [deadlines(network, args.queries, args.seed)]
    if args.checkpoint is None or args.people is None:
        return []
    return drift(network, args.people.expanduser(), args.seed)


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a CSV file, whose header they have."""
    cells = [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    write(path, [*read(path), *cells])


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
    return table


if __name__ == "__main__":
    main()
