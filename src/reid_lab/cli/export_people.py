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
    from reid_lab.output.console import stdout
    from reid_lab.serve.people_export import export_people

    done = export_people(args.people, args.out)
    less = f"; {done.left_out:,} images have no thumbnail and are left out" if done.left_out else ""
    stdout.print(
        f"{done.folder}: {done.enrolled:,} enrolled images, {done.confirmed:,} confirmed and "
        f"{done.rejected:,} rejected matches{less}"
    )
    return 0
