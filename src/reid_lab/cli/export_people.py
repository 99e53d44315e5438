"""`reid-lab export-people`: the images and labels of a service's people, as files."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers

EXAMPLES = """\
examples:
  reid-lab export-people people.sqlite --out labelled/
  reid-lab gallery build --checkpoint last.ckpt --images labelled/images.csv --out gallery/
  reid-lab gallery calibrate gallery/
  python -m reid_lab +experiment=finetune dataset=csv dataset.root=labelled/
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "export-people",
        help="write the images that a service was shown, with what users said of them",
        description="Write the images of a service's people, enrolled or confirmed on its page, "
        "with images.csv, to calibrate and train with; labels.csv has all confirmed and rejected "
        "matches. The service may run.",
        epilog=EXAMPLES,
    )
    parser.add_argument("people", type=Path, help="the --people file of reid-lab serve")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.set_defaults(command=Command(work, interrupted="interrupted: remove --out to repeat it"))


def work(args: argparse.Namespace) -> int:
    from reid_lab.serve.export_people import export

    return export(args)
