"""`reid-lab doctor`: check a data set before training."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers, add_overrides, count, report_error

ENDINGS = (".png", ".jpg", ".jpeg")


EXAMPLES = """\
status: 0 training would work, 1 it would fail, 2 the command is wrong

examples:
  reid-lab doctor dataset=market1501 dataset.root=/data/Market-1501-v15.09.15
  reid-lab doctor dataset=csv dataset.root=/data/mine --sheet mine.png
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "doctor",
        help="check a data set before training",
        description="Check a data set before training: what it holds, and what is wrong with it.",
        epilog=EXAMPLES,
    )
    add_overrides(parser, "dataset=csv dataset.root=...")
    parser.add_argument(
        "--sheet",
        type=_image_path,
        metavar="FILE.png",
        help="write a contact sheet of random people",
    )
    parser.add_argument(
        "--people", type=count, default=8, help="people on the sheet; default: %(default)s"
    )
    parser.set_defaults(command=Command(work, wrong=2, mixed=True))


def _image_path(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {path.parent} does not exist")
    return path


def work(args: argparse.Namespace) -> int:
    from reid_lab.dataset.records import DatasetError

    try:
        return _examined(args)
    except DatasetError as error:  # after the report: the sheet cannot be made
        return report_error(error, 1)


def _examined(args: argparse.Namespace) -> int:
    from reid_lab.cli.show import doctor as show
    from reid_lab.doctor.examine import examine_data
    from reid_lab.files.outputs import check_writable
    from reid_lab.output.console import counters

    if args.sheet is not None:
        check_writable(args.sheet)
    with counters() as tell:
        found = examine_data(
            args.overrides, progress=lambda part, *counts: tell(f"{part} images", *counts)
        )
    if found.benchmark is not None:
        show.overview(found.benchmark, found.images)
    show.findings(found.findings)
    if args.sheet is not None and found.benchmark is not None:
        found.write_sheet(args.sheet, args.people)
        show.sheet_written(args.sheet)
    return int(not found.trainable)
