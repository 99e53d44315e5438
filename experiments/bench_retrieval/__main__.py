"""Ranking and re-ranking beside their peers: seconds, peak memory, and whether they agree.

python -m experiments.bench_retrieval       (make bench-retrieval)

Peers are measured where they can be imported (see README.md).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

# Nothing heavy here: a process that is started counts its parent's memory as its own at first.
from experiments.bench_retrieval import tables
from experiments.bench_retrieval.candidates import LIST
from experiments.bench_retrieval.child import explain
from experiments.bench_retrieval.sizes import SIZES, Size, growing
from experiments.bench_retrieval.tables import Measured

SECTIONS = ("evaluation", "reranking", "growth")
GALLERIES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUADRATIC = 100_000  # re-ranking compares all images with all: not asked of more


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench_retrieval", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", choices=SECTIONS, action="append", help="sections (all)")
    parser.add_argument("--size", choices=list(SIZES), action="append", help="sizes (market)")
    parser.add_argument("--names", nargs="+", help="candidates whose names contain one of these")
    parser.add_argument("--largest", type=int, default=max(GALLERIES), help="gallery of growth")
    parser.add_argument("--rounds", type=int, default=3, help="processes a candidate (3)")
    parser.add_argument("--limit-gb", type=float, default=20, help="address space of each; 0: any")
    parser.add_argument("--patience", type=float, default=3600, help="seconds of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="write every round here, too")
    return parser.parse_args()


def main() -> None:
    asked = options()
    console = Console(width=120)
    facts = run({"task": "facts", "limit_gb": 0}, asked.patience)
    console.print(
        f"{facts['machine']}, {facts['threads']} threads; "
        + ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
        + f"; commit {facts['commit']}; {asked.rounds} rounds, seed {asked.seed}, "
        f"limit {asked.limit_gb:g} GiB; imports alone hold {facts['peak_mb']:,.0f} MB"
    )
    everything: list[Measured] = []
    for section in asked.only or SECTIONS:
        for title, works in plan(section, asked):
            with tempfile.TemporaryDirectory() as folder:
                measure(works, asked, Path(folder), console)
            table = tables.growth if section == "growth" else tables.comparison
            console.print(table(title, works))
            everything += works
            if asked.csv:
                where = {"machine": facts["machine"], "commit": facts["commit"]}
                write_csv(asked.csv, everything, {**where, **facts["versions"]})


def plan(section: str, asked: argparse.Namespace) -> list[tuple[str, list[Measured]]]:
    """Tables to come: title and what each is made of."""
    chosen = [
        c
        for c in LIST
        if c.section == section and (not asked.names or any(n in c.name for n in asked.names))
    ]

    def works(sizes: dict[str, Size]) -> list[Measured]:
        return [
            Measured(section, c.name, c.same, name, size)
            for name, size in sizes.items()
            for c in chosen
            if c.name != "re-ranking" or size.gallery <= QUADRATIC
        ]

    if section == "growth":
        sizes = {f"{g:,}": growing(g) for g in GALLERIES if g <= asked.largest}
        queries, dim = growing(1000).query, growing(1000).dim
        return [(f"growth: {queries:,} queries, d = {dim}", works(sizes))]
    return [
        (f"{section}, {name}: {s.query:,} x {s.gallery:,}, d = {s.dim}", works({name: s}))
        for name, s in ((name, SIZES[name]) for name in asked.size or ["market"])
    ]


def measure(
    works: Sequence[Measured], asked: argparse.Namespace, folder: Path, console: Console
) -> None:
    """Round by round, so that what else the machine does hits all alike."""
    few = invent(growing(1000, 100), asked, folder)
    for number in range(asked.rounds):
        for m in (m for m in works if not m.failure):
            order = {
                "task": "measure",
                "candidate": f"{m.section}: {m.name}",
                "few": str(few),
                "people": str(invent(m.size, asked, folder)),
                "limit_gb": asked.limit_gb,
            }
            with console.status(f"{m.section}, {m.size_name}: {m.name}, round {number + 1}"):
                answer = run(order, asked.patience)
            if "missing" in answer:
                m.failure = "left out"
                console.print(f"{m.name} is left out: {answer['missing']}", markup=False)
            elif "error" in answer:
                out = answer["error"] == "out of memory" and asked.limit_gb
                m.failure = f"over {asked.limit_gb:g} GiB" if out else answer["error"]
            else:
                m.rounds.append(answer)


def invent(size: Size, asked: argparse.Namespace, folder: Path) -> Path:
    """The file of these people, written once."""
    path = folder / f"{size.query}_{size.gallery}.pt"
    if not path.exists():
        order = {"task": "invent", "size": asdict(size), "seed": asked.seed, "people": str(path)}
        answer = run({**order, "limit_gb": 0}, asked.patience)
        if answer:
            sys.exit(f"no features of {size}: {answer}")
    return path


def run(order: dict[str, Any], patience: float) -> dict[str, Any]:
    """What the child says last; or why it says nothing."""
    command = [sys.executable, "-m", "experiments.bench_retrieval.child", json.dumps(order)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return {"error": f"over {patience:,.0f} s"}
    if done.returncode:
        killed = "out of memory" if done.returncode == -9 else done.stderr
        return {"error": explain(killed)}
    return json.loads(done.stdout.splitlines()[-1])


def write_csv(path: Path, measured: Sequence[Measured], where: dict[str, str]) -> None:
    rows = [{**row, **where} for m in measured for row in m.csv_rows()]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
