"""What the command line takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reid_lab.cli.command import count, program

PICTURES = (".png", ".jpg", ".jpeg")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The overrides and options. Exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(program("doctor"))
    parser.description = "Look at a data set before training: what is there, and what is wrong."
    parser.epilog = (
        "Status 0: training would work; 1: it would fail; 2: the command is wrong. "
        "Example: python -m reid_lab.doctor dataset=csv dataset.root=/data/mine --sheet mine.png"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="as of `python -m reid_lab`: dataset=csv dataset.root=...",
    )
    parser.add_argument(
        "--sheet", type=_picture, metavar="FILE.png", help="write a sheet of random people"
    )
    parser.add_argument("--people", type=count, default=8, help="of the sheet, %(default)s")
    return parser.parse_intermixed_args(argv)


def _picture(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a picture: {', '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist")
    return path
