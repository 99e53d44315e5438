"""Arguments of the command line."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from reid_lab.cli.command import program

# limit -> the column that it bounds
LIMITS = {
    "max_mul_adds": "mul_adds",
    "max_latency_ms": "latency_p50_ms",
    "max_memory_bytes": "peak_memory_bytes",
    "max_embedding_bytes": "embedding_bytes",
    "max_parameters": "parameters",
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line. Exits with status 2 if it is invalid."""
    parser = argparse.ArgumentParser(program("frontier"))
    parser.description = (
        "Finished runs as one table, plots and a page: accuracy against Mul-Adds, latency and "
        "memory. Seeds of one method are pooled. With a limit: the best that fits it. A run whose "
        "files are malformed is left out with a note, and the status is 1."
    )
    parser.add_argument("runs", nargs="*", type=Path, help="run folders, or folders that hold some")
    parser.add_argument(
        "--from", dest="table", type=Path, help="draw a frontier.csv again, instead of runs"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("frontier"), help="folder to write, %(default)s/"
    )
    parser.add_argument(
        "--dataset",
        help="only this one: its name, or the key 1f3c of synthetic@1f3c",
    )
    parser.add_argument(
        "--published", action="store_true", help="draw the papers' numbers for the same data set"
    )
    parser.add_argument(
        "--metric",
        choices=("rank1", "mAP"),
        default="rank1",
        help="of the best under a budget, %(default)s",
    )
    for limit, column in LIMITS.items():
        parser.add_argument(f"--{limit.replace('_', '-')}", type=_limit, help=f"bound on {column}")
    args = parser.parse_args(argv)
    if bool(args.runs) == bool(args.table):
        parser.error("give run folders, as runs/*/, or --from frontier.csv")
    return args


def limits(args: argparse.Namespace) -> dict[str, float]:
    """Column -> bound, of the limits that were given."""
    given = {column: getattr(args, limit) for limit, column in LIMITS.items()}
    return {column: value for column, value in given.items() if value is not None}


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number >= 0, such as 5e8")
    return value
