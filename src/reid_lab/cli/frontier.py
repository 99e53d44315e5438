"""`reid-lab frontier`: compare finished runs under a budget."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers

# bounds on the columns of a point, see reid_lab.frontier.best.LIMITS
LIMITS = ("mul-adds", "latency-ms", "memory-bytes", "embedding-bytes", "parameters", "joules")
EXAMPLES = """\
examples:
  reid-lab frontier runs/ --max-mul-adds 5e8
  reid-lab frontier --from frontier/frontier.csv --out again
  reid-lab frontier runs/market1501/ runs/dukemtmc/ --average --published
  reid-lab frontier multirun/2026-01-31/12-00-00/ --transfer --average
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "frontier",
        help="compare finished runs under a budget",
        description=(
            "Finished runs as one table, plots and a page: accuracy against Mul-Adds, latency and "
            "memory. Seeds of one method are pooled. With a limit: the best exit within it. A run "
            "whose files are malformed is left out with a note, and the status is 1."
        ),
        epilog=EXAMPLES,
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
        "--average",
        action="store_true",
        help="also the mean over all data sets, of methods with the same name on each",
    )
    parser.add_argument(
        "--transfer",
        action="store_true",
        help="only checkpoints on data sets that they were not trained on, by pair of data sets",
    )
    parser.add_argument(
        "--metric",
        choices=("rank1", "mAP"),
        default="rank1",
        help="of the best under a budget, %(default)s",
    )
    parser.add_argument(
        "--cost",
        choices=("mul_adds", "latency", "energy"),
        help="of the streams only those whose budgets are in this currency; all by default",
    )
    for limit in LIMITS:
        words = limit.replace("-", " ").replace("mul adds", "Mul-Adds")
        parser.add_argument(f"--max-{limit}", type=_limit, help=f"bound on {words}")
    parser.set_defaults(command=Command(work, check))


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if bool(args.runs) == bool(args.table):
        parser.error("give run folders, as runs/*/, or --from frontier.csv")


def work(args: argparse.Namespace) -> int:
    from reid_lab.frontier.show import show

    return show(args)


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number >= 0, such as 5e8")
    return value
