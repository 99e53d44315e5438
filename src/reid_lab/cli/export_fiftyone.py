"""`reid-lab export-fiftyone`: a gallery, and a search's results, as a dataset for FiftyOne."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers

EXAMPLES = """\
examples:
  reid-lab export-fiftyone gallery/ --out people_fiftyone/
  reid-lab gallery search gallery/ --checkpoint last.ckpt --image queries/ --out matches.jsonl
  reid-lab export-fiftyone gallery/ --matches matches.jsonl --out people_fiftyone/
  python people_fiftyone/load.py        # with FiftyOne installed
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "export-fiftyone",
        help="write a gallery, and a search's results, as a dataset for FiftyOne",
        description="Write a gallery as a CSV dataset of FiftyOne: labels.csv with people, "
        "cameras, metadata and embeddings, and load.py, which opens it in FiftyOne. Images are "
        "not copied.",
        epilog=EXAMPLES,
    )
    parser.add_argument("gallery", type=Path, help="folder of the gallery")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument(
        "--matches",
        type=Path,
        metavar="FILE.jsonl",
        help="results of reid-lab gallery search --out FILE.jsonl: queries become samples, too",
    )
    parser.add_argument(
        "--name", default="people", help="of the dataset in FiftyOne; default: %(default)s"
    )
    parser.set_defaults(command=Command(work, interrupted="interrupted: nothing was written"))


def work(args: argparse.Namespace) -> int:
    from reid_lab.gallery.fiftyone_csv import export_fiftyone
    from reid_lab.output.console import stdout

    done = export_fiftyone(args.gallery, args.out, matches=args.matches, name=args.name)
    lacking = f"; {done.missing:,} files are not on this machine" if done.missing else ""
    stdout.print(f"{done.folder}: {done.images:,} images, {done.queries:,} queries{lacking}")
    return 0
