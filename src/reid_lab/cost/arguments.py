"""What the command line takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reid_lab.cli.command import batch_size, count, positive, program


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The overrides and options. Exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(program("cost"))
    parser.description = (
        "What each exit of a model takes on this machine: Mul-Adds, parameters, memory, time and, "
        "where the platform tells it, energy. Nothing is trained, downloaded or read."
    )
    parser.epilog = "Example: python -m reid_lab.cost +experiment=dare_market --batch 32"
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="as of `python -m reid_lab`: +experiment=dare_market model.dim=64 ...",
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="of a run: its network, at its image size, is measured"
    )
    parser.add_argument(
        "--batch", type=batch_size, default=32, help="images at once for images/s, %(default)s"
    )
    parser.add_argument(
        "--repeats", type=count, default=50, help="passes of each at most, %(default)s"
    )
    parser.add_argument(
        "--seconds",
        type=positive,
        default=30.0,
        help="for the passes of the network, and of each reference; %(default)s",
    )
    parser.add_argument(
        "--gallery", type=count, help="images that a query is compared with: adds what that costs"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; auto takes a GPU")
    parser.add_argument(
        "--allocator",
        choices=("keep", "default", "compare"),
        default="keep",
        help="on the CPU: keep freed memory for the next layer (glibc), or leave glibc its way; "
        "compare measures both in turns, in processes of their own; %(default)s",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table, too")
    return parser.parse_intermixed_args(argv)
