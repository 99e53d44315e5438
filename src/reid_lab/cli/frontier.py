"""`reid-lab frontier`: compare finished runs under a budget."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from reid_lab.cli.command import Command, Parser, Subparsers

# bounds on the columns of a point, see reid_lab.frontier.best.LIMITS
BOUNDS = {
    "mul-adds": "Mul-Adds of an image",
    "latency-ms": "milliseconds of an image",
    "memory-bytes": "bytes of peak memory",
    "embedding-bytes": "bytes of an image's embeddings in the gallery",
    "parameters": "parameters",
    "joules": "joules of an image",
}
EXAMPLES = """\
examples:
  reid-lab frontier runs/ --max-mul-adds 5e8
  reid-lab frontier --from frontier/frontier.csv --out again
  reid-lab frontier runs/market1501/ runs/dukemtmc/ --average --published
  reid-lab frontier runs/ --name demo="small DaRe" --name han_synthetic=HAN
  reid-lab frontier multirun/2026-01-31/12-00-00/ --transfer --average
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "frontier",
        help="compare finished runs under a budget",
        description=(
            "Compare finished runs in a table, plots and an HTML page: accuracy against Mul-Adds, "
            "latency and memory. Seeds of one method are pooled. With a limit, print the best exit "
            "within it. A run with malformed files is left out with a note, and the status is 1."
        ),
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, help="run folders, or folders with runs at any depth"
    )
    parser.add_argument(
        "--from", dest="table", type=Path, help="draw a frontier.csv again, instead of runs"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("frontier"), help="output folder; default: %(default)s/"
    )
    _add_contents(parser)
    _add_budget(parser)
    parser.set_defaults(command=Command(work, check))


def _add_contents(parser: Parser) -> None:
    parser.add_argument(
        "--dataset",
        help="show only this data set: its name, or the key 1f3c of synthetic@1f3c",
    )
    parser.add_argument(
        "--published", action="store_true", help="also draw published results on the same data set"
    )
    parser.add_argument(
        "--average",
        action="store_true",
        help="also write the mean over all data sets, for methods with the same name on each",
    )
    parser.add_argument(
        "--transfer",
        action="store_true",
        help="show only tests on a data set that the checkpoint was not trained on",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        type=_name,
        metavar="METHOD=NAME",
        help="show a method under another name; may be repeated",
    )


def _add_budget(parser: Parser) -> None:
    parser.add_argument(
        "--metric",
        choices=("rank1", "mAP"),
        default="rank1",
        help="metric that selects the best under a budget; default: %(default)s",
    )
    parser.add_argument(
        "--cost",
        choices=("mul_adds", "latency", "energy"),
        help="show only streams whose budgets are in this unit; default: all",
    )
    for limit, words in BOUNDS.items():
        parser.add_argument(f"--max-{limit}", type=_limit, metavar="MAX", help=f"most {words}")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if bool(args.runs) == bool(args.table):
        parser.error("give run folders, as runs/*/, or --from frontier.csv")


def work(args: argparse.Namespace) -> int:
    from reid_lab.errors import UserError
    from reid_lab.frontier.best import LIMITS, answer
    from reid_lab.frontier.draw import draw_frontier

    given = {column: getattr(args, limit) for limit, column in LIMITS.items()}
    limits = {column: value for column, value in given.items() if value is not None}
    if len(dict(args.name)) != len(args.name):
        raise UserError("--name: a method is given twice; give each one name")
    found = draw_frontier(
        args.runs,
        args.out,
        table=args.table,
        dataset=args.dataset,
        published=args.published,
        average=args.average,
        transfer=args.transfer,
        names=dict(args.name),
        cost=args.cost,
        limits=limits,
        metric=args.metric,
    )
    status = int(bool(found.broken))
    for i, view in enumerate(found.views):
        print(f"{view.dataset}: {view.page}")
        for note in [*(found.notes if i == 0 else ()), *view.notes]:
            print(f"note: {note}", file=sys.stderr)
        try:
            if limits:
                print(answer(view.points, limits, args.metric))
        except UserError as error:
            print(f"error: {view.dataset}: {error.command_text or error}", file=sys.stderr)
            status = 1
    if found.broken:
        print(f"error: {len(found.broken)} left out, as noted", file=sys.stderr)
    return status


def _name(text: str) -> tuple[str, str]:
    method, equals, name = text.partition("=")
    if not (method and equals and name.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not METHOD=NAME, such as demo=DaRe")
    return method, name.strip()


def _limit(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number >= 0, such as 5e8")
    return value
