"""`reid-lab soften`: a teacher's softened probabilities. Distillation paper, figure 5."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers, count, positive
from reid_lab.cli.gallery import add_network

EXAMPLES = """\
examples:
  reid-lab soften --checkpoint teacher.ckpt --images bounding_box_train/ --out softened/
  reid-lab soften --checkpoint teacher.ckpt --images one.jpg --out softened/ --temperatures 1 4 30
"""
FIGURE_5 = (1.0, 3.0, 5.0, 10.0, 20.0, 30.0)


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "soften",
        help="draw a teacher's softened probabilities at several temperatures",
        description="Write the probabilities of a classifier's identities for some images at "
        "several temperatures: softened.csv, and softened.png of the first four images.",
        epilog=EXAMPLES,
    )
    add_network(parser)
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="a folder, a CSV file as for reid-lab embed, or an image",
    )
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument(
        "--temperatures",
        type=positive,
        nargs="+",
        default=FIGURE_5,
        metavar="T",
        help="temperatures; default: those of the paper's figure 5, %(default)s",
    )
    parser.add_argument(
        "--exit", metavar="NAME", help="exit to use; default: the last one with a classifier"
    )
    parser.add_argument(
        "--count",
        type=count,
        default=4,
        help="number of images, spread evenly over all; default: %(default)s",
    )
    parser.set_defaults(command=Command(work))


def work(args: argparse.Namespace) -> int:
    from reid_lab.cli.show import gallery as show
    from reid_lab.gallery.soften import soften_images

    result = soften_images(
        args.images,
        args.checkpoint,
        args.out,
        temperatures=args.temperatures,
        exit=args.exit,
        count=args.count,
        batch_size=args.batch_size,
        device=args.device,
    )
    show.broken(result.broken)
    show.softened(result)
    return 0
