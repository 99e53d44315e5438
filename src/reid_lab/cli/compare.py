"""`reid-lab compare`: two runs on the same queries, with intervals of the differences."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers

EXAMPLES = """\
examples:
  reid-lab compare runs/dare_market/2026-11-01 runs/bot_market/2026-11-02
  reid-lab compare seeds/dare seeds/bot --out compare.csv
  reid-lab compare RUN RUN --exits fusion:stage4          # exits of one run
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "compare",
        help="test whether one run is better than another",
        description=(
            "Show the differences in Rank-1 and mAP between two runs that were tested on the same "
            "queries, by exit and at equal Mul-Adds, with 95% intervals by a paired bootstrap over "
            "identities. A folder with several runs counts as the seeds of one recipe; of runs "
            "with the same settings and seed, the newest counts."
        ),
        epilog=EXAMPLES,
    )
    parser.add_argument("a", type=Path, help="a run folder, or a folder with runs of one recipe")
    parser.add_argument("b", type=Path, help="the run or folder to compare with")
    parser.add_argument(
        "--exits",
        type=_pair,
        nargs="+",
        metavar="A:B",
        help="exit of A and exit of B to compare; default: all exits, by name and at equal cost",
    )
    parser.add_argument("--out", type=Path, help="also write the table to this CSV file")
    parser.set_defaults(command=Command(work))


def work(args: argparse.Namespace) -> int:
    from reid_lab.cli.show import compare as show
    from reid_lab.files.outputs import check_writable
    from reid_lab.frontier.compare import COMPARISON, compare_runs

    if args.out is not None:
        check_writable(args.out)
    comparison = compare_runs(args.a, args.b, args.exits)
    show.comparison(comparison, args.a, args.b)
    if args.out is not None:
        COMPARISON.write(args.out, comparison.rows)
    return 0


def _pair(text: str) -> tuple[str, str]:
    one, colon, two = text.partition(":")
    if not (one and colon and two):
        raise argparse.ArgumentTypeError(f"{text!r}: expected EXIT:EXIT, such as fusion:stage4")
    return one, two
