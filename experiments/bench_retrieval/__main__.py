"""Compare ranking and re-ranking with other toolboxes: seconds, peak memory, agreement.

python -m experiments.bench_retrieval       (make bench-retrieval)

Toolboxes that cannot be imported are skipped (see README.md).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

# No torch here: the peak memory of a child process starts at that of its parent.
from experiments.bench_retrieval import tables
from experiments.bench_retrieval.candidates import CANDIDATES
from experiments.bench_retrieval.child import explain
from experiments.bench_retrieval.sizes import SIZES, Size, growing
from experiments.bench_retrieval.tables import CandidateResult
from experiments.tables import write

SECTIONS = ("evaluation", "reranking", "growth")
GALLERIES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUADRATIC = 100_000  # largest gallery for re-ranking, which compares all pairs of images


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench_retrieval", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--only", choices=SECTIONS, action="append", help="sections; all by default"
    )
    parser.add_argument(
        "--size", choices=list(SIZES), action="append", help="sizes; market by default"
    )
    parser.add_argument(
        "--names", nargs="+", help="only candidates whose names contain one of these"
    )
    parser.add_argument(
        "--largest", type=int, default=max(GALLERIES), help="largest gallery of `growth`"
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes per candidate (3)")
    parser.add_argument(
        "--limit-gb", type=float, default=20, help="address space of a process; 0: no limit"
    )
    parser.add_argument(
        "--patience", type=float, default=3600, help="time limit of a process in seconds"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="also write every round to this file")
    return parser.parse_args()


def main() -> None:
    args = options()
    console = Console(width=120)
    facts = run({"task": "facts", "limit_gb": 0}, args.patience)
    console.print(
        f"{facts['machine']}, {facts['threads']} threads; "
        + ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
        + f"; commit {facts['commit']}; {args.rounds} rounds, seed {args.seed}, "
        f"limit {args.limit_gb:g} GiB; imports alone take {facts['peak_mb']:,.0f} MB"
    )
    results: list[CandidateResult] = []
    for section in args.only or SECTIONS:
        for title, works in plan(section, args):
            with tempfile.TemporaryDirectory() as folder:
                measure(works, args, Path(folder), console)
            table = tables.growth if section == "growth" else tables.comparison
            console.print(table(title, works))
            results += works
            if args.csv:
                machine = {"machine": facts["machine"], "commit": facts["commit"]}
                provenance = {**machine, **facts["versions"]}
                write(args.csv, [row | provenance for m in results for row in m.csv_rows()])


def plan(section: str, args: argparse.Namespace) -> list[tuple[str, list[CandidateResult]]]:
    """The tables of a section: title and the (still empty) results of its candidates."""
    chosen = [
        c
        for c in CANDIDATES
        if c.section == section and (not args.names or any(n in c.name for n in args.names))
    ]

    def works(sizes: dict[str, Size]) -> list[CandidateResult]:
        return [
            CandidateResult(section, c.name, c.same, name, size)
            for name, size in sizes.items()
            for c in chosen
            if c.name != "re-ranking" or size.gallery <= QUADRATIC
        ]

    if section == "growth":
        sizes = {f"{g:,}": growing(g) for g in GALLERIES if g <= args.largest}
        queries, dim = growing(1000).query, growing(1000).dim
        return [(f"growth: {queries:,} queries, d = {dim}", works(sizes))]
    return [
        (f"{section}, {name}: {s.query:,} x {s.gallery:,}, d = {s.dim}", works({name: s}))
        for name, s in ((name, SIZES[name]) for name in args.size or ["market"])
    ]


def measure(
    works: Sequence[CandidateResult], args: argparse.Namespace, folder: Path, console: Console
) -> None:
    """Run all candidates once per round, so that other load affects all of them equally."""
    few = features_file(growing(1000, 100), args, folder)
    for number in range(args.rounds):
        for m in (m for m in works if not m.failure):
            task = {
                "task": "measure",
                "candidate": f"{m.section}: {m.name}",
                "few": str(few),
                "people": str(features_file(m.size, args, folder)),
                "limit_gb": args.limit_gb,
            }
            with console.status(f"{m.section}, {m.size_name}: {m.name}, round {number + 1}"):
                answer = run(task, args.patience)
            if "missing" in answer:
                m.failure = "skipped"
                console.print(f"{m.name} is skipped: {answer['missing']}", markup=False)
            elif "error" in answer:
                out = answer["error"] == "out of memory" and args.limit_gb
                m.failure = f"over {args.limit_gb:g} GiB" if out else answer["error"]
            else:
                m.rounds.append(answer)


def features_file(size: Size, args: argparse.Namespace, folder: Path) -> Path:
    """A file of synthetic features of this size, written on first use."""
    path = folder / f"{size.query}_{size.gallery}.pt"
    if not path.exists():
        task = {"task": "features", "size": asdict(size), "seed": args.seed, "people": str(path)}
        answer = run({**task, "limit_gb": 0}, args.patience)
        if answer:
            sys.exit(f"cannot write features of {size}: {answer}")
    return path


def run(task: dict[str, Any], patience: float) -> dict[str, Any]:
    """Run a task in a child process; its result, or {"error": reason}."""
    command = [sys.executable, "-m", "experiments.bench_retrieval.child", json.dumps(task)]
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        return {"error": f"over {patience:,.0f} s"}
    if finished.returncode:
        reason = "out of memory" if finished.returncode == -9 else finished.stderr
        return {"error": explain(reason)}
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
