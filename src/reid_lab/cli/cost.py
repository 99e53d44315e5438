"""`reid-lab cost`: measure what each exit costs on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import (
    Command,
    Parser,
    Subparsers,
    add_overrides,
    add_renamed,
    batch_size,
    count,
    mul_adds,
    positive,
)

EXAMPLES = """\
examples:
  reid-lab cost +experiment=dare_market --batch-size 32
  reid-lab cost --checkpoint last.ckpt --gallery 19732 --csv cost.csv
  reid-lab cost --checkpoint last.ckpt --gallery 19732 --batch-size 32 --profile profile.csv
  reid-lab cost --suggest-exits backbone=resnet50 dataset=market1501 dataset.root=data/market
  reid-lab cost --suggest-exits --budget-ms 2 10 dataset=market1501 dataset.root=data/market
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "cost",
        help="measure what each exit costs on this machine",
        description=(
            "Measure what each exit of a model costs on this machine: Mul-Adds, parameters, "
            "memory, time and, where the platform has a meter, energy. Nothing is trained or "
            "downloaded."
        ),
        epilog=EXAMPLES,
    )
    add_overrides(parser, "+experiment=dare_market model.dim=64 ...")
    _add_measurement(parser)
    _add_files(parser)
    _add_suggestion(parser)
    parser.set_defaults(command=Command(work, check, wrong=2, mixed=True))


def _add_measurement(parser: Parser) -> None:
    parser.add_argument(
        "--checkpoint", type=Path, help="measure the network of this checkpoint, at its image size"
    )
    add_renamed(
        parser,
        "--batch-size",
        "--batch",
        dest="batch",
        type=batch_size,
        default=32,
        help="batch size for images/s; default: %(default)s",
    )
    parser.add_argument(
        "--repeats", type=count, default=50, help="most timed passes of each; default: %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        default=30.0,
        help="seconds to time the network, and each reference; default: %(default)s",
    )
    parser.add_argument(
        "--gallery",
        type=count,
        help="size of the gallery: adds the cost of a search in so many images",
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1; default: auto, a GPU if there is one"
    )
    parser.add_argument(
        "--allocator",
        choices=("keep", "default", "compare"),
        default="keep",
        help="glibc's allocator on the CPU: keep freed memory for the next layer, or glibc's "
        "default; compare measures both, interleaved; default: %(default)s",
    )


def _add_files(parser: Parser) -> None:
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write the table to this CSV file"
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="also measure a query at batch size 1 and --batch-size, with its search of --gallery "
        "images, for budgets in ms and joules; runs look for profile.csv beside the checkpoint",
    )


def _add_suggestion(parser: Parser) -> None:
    parser.add_argument(
        "--suggest-exits",
        action="store_true",
        help="instead show which stages of the backbone are worth a head, by the Rank-1 of a "
        "linear probe on held-out training people and the time on this machine",
    )
    budgets = parser.add_mutually_exclusive_group()
    for option, unit, kind in (("mul-adds", "Mul-Adds", mul_adds), ("ms", "ms", positive)):
        budgets.add_argument(
            f"--budget-{option}",
            nargs=2,
            type=kind,
            metavar=("LOW", "HIGH"),
            help=f"--suggest-exits for mean budgets of a query from LOW to HIGH {unit}",
        )


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.profile is not None and args.gallery is None:
        parser.error("--profile needs --gallery N, the images that a query is compared with")
    if args.profile is not None and args.allocator == "compare":
        parser.error("--allocator compare measures no profile: leave out --profile")
    if args.suggest_exits and (args.profile or args.csv or args.allocator == "compare"):
        parser.error("--suggest-exits prints a table: leave out --profile, --csv and compare")
    budgets = args.budget_mul_adds or args.budget_ms
    if budgets and not args.suggest_exits:
        parser.error("--budget-mul-adds and --budget-ms need --suggest-exits")
    if budgets and budgets[0] > budgets[1]:
        parser.error(f"budgets are LOW HIGH, {budgets[0]:g} is above {budgets[1]:g}")


def work(args: argparse.Namespace) -> int:
    if args.allocator == "compare":
        return _compare(args)
    return _suggest(args) if args.suggest_exits else _measure(args)


def _compare(args: argparse.Namespace) -> int:
    from reid_lab.cli.show import cost as show
    from reid_lab.profiling.compare import compare_allocators

    rates = compare_allocators(
        args.overrides,
        args.checkpoint,
        batch_size=args.batch,
        repeats=args.repeats,
        seconds=args.seconds,
        device=args.device,
    )
    show.ratios(rates.keep, rates.default)
    return 0


def _suggest(args: argparse.Namespace) -> int:
    from reid_lab.cli.show import cost as show
    from reid_lab.output.console import stderr
    from reid_lab.profiling.suggest import Budgets, suggest_exits

    budgets = None
    if args.budget_mul_adds is not None:
        budgets = Budgets("mul_adds", *args.budget_mul_adds)
    elif args.budget_ms is not None:
        budgets = Budgets("latency", *args.budget_ms)
    with stderr.status("measure ..."):
        found = suggest_exits(
            args.overrides,
            args.checkpoint,
            budgets=budgets,
            gallery=args.gallery,
            repeats=args.repeats,
            seconds=args.seconds,
            device=args.device,
            allocator=args.allocator,
        )
    words = None if budgets is None else str(budgets)
    show.stages(found.stages, found.dataset, found.profile, found.trained, words)
    return 0


def _measure(args: argparse.Namespace) -> int:
    from reid_lab.budget.profile import write_profile
    from reid_lab.cli.show import cost as show
    from reid_lab.files.outputs import check_writable
    from reid_lab.output.console import stderr
    from reid_lab.profiling.measure import measure_costs
    from reid_lab.results.rows.cost import COST

    for path in filter(None, (args.csv, args.profile)):
        check_writable(path)
    with stderr.status("measure ..."):
        found = measure_costs(
            args.overrides,
            args.checkpoint,
            gallery=args.gallery,
            profile=args.profile is not None,
            batch_size=args.batch,
            repeats=args.repeats,
            seconds=args.seconds,
            device=args.device,
            allocator=args.allocator,
        )
    show.costs(found.rows, found.name, found.size)
    if args.csv is not None:
        COST.write(args.csv, found.rows)
    if args.profile is not None:
        write_profile(args.profile, found.profile)
        show.profile(found.profile, args.profile)
    return 0
