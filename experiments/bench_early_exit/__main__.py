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

from experiments.bench_early_exit.deadlines import deadlines
from experiments.bench_early_exit.drift import drift
from experiments.bench_early_exit.models import BenchNetwork, networks
from experiments.bench_early_exit.overhead import overhead
from experiments.bench_early_exit.ratios import compare
from reid_lab.budget.steps import steady_rows
from reid_lab.results.provenance import commit, machine

SECTIONS = ("ratios", "overhead", "bits", "deadlines", "drift")


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
    parser.add_argument("--csv", type=Path, help="add the rows of overhead to a file")
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
    for network in networks(args.checkpoint):
        console.rule(network.name)
        for name in sections:
            rows = _section(name, network, args)
            console.print(_table(name, rows) if rows else f"{name}: needs CHECKPOINT and --people")


def _section(
    name: str, network: BenchNetwork, args: argparse.Namespace
) -> Sequence[Mapping[str, Any]]:
    """The rows of one section; none if its arguments are missing."""
    if name == "ratios":
        by_batch = [compare(network, args.policy, batch, args.rounds) for batch in args.batch]
        return [row for rows in by_batch for row in rows]
    if name == "overhead":
        rounds = [
            overhead(network, args.policy, batch, args.rounds, max(64, 4 * batch))
            for batch in args.batch
        ]
        return [row for rows in rounds for row in rows]
    if name == "bits":
        return [{"steady_rows": steady_rows(network.model, network.images(34)), "of": 34}]
    if name == "deadlines":
        return [deadlines(network, args.queries, args.seed)]
    if args.checkpoint is None or args.people is None:
        return []
    return drift(network, args.people.expanduser(), args.seed)


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values()))
    return table


if __name__ == "__main__":
    main()
