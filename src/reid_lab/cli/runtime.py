"""`reid-lab runtime`: embed images with an exported network."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers, accept_rate, batch_size, count, whole

EXAMPLES = """\
status: 0 all images were read, 1 an error, or some images cannot be read (they are listed)

examples:
  reid-lab runtime exported images/*.jpg --out embeddings.npz
  reid-lab runtime exported someone.jpg --gallery gallery/ --top 5
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "runtime",
        help="embed images with an exported network",
        description="Embed images with an exported network: onnxruntime, no torch.",
        epilog=EXAMPLES,
    )
    parser.add_argument("folder", type=Path, help="folder that reid-lab export wrote")
    parser.add_argument(
        "images", type=Path, nargs="+", help="image files, or folders with subfolders"
    )
    parser.add_argument(
        "--out", type=Path, help="write the embeddings of all exits, .npz or .parquet"
    )
    parser.add_argument("--gallery", type=Path, help="search this gallery and print the matches")
    parser.add_argument(
        "--exit",
        help="exit of the queries; another one than the gallery's needs a network trained with "
        "model.shared_space=true; default: the gallery's",
    )
    parser.add_argument(
        "--top", type=count, default=10, help="matches for each query; default: %(default)s"
    )
    parser.add_argument(
        "--where",
        default="",
        metavar="FILTER",
        help='search only images that match, such as "site=north"',
    )
    parser.add_argument(
        "--false-accept-rate",
        type=accept_rate,
        metavar="RATE",
        help="also print whether each image is known, unknown or ambiguous at this rate, as 0.01",
    )
    parser.add_argument(
        "--batch-size", type=batch_size, default=32, help="images at a time; default: %(default)s"
    )
    parser.add_argument(
        "--threads",
        type=whole(0, 1024),
        default=0,
        help="threads of the network; default: %(default)s, all cores",
    )
    parser.set_defaults(command=Command(work, check))


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not (args.out or args.gallery):
        parser.error("nothing to do: give --out, --gallery, or both")
    if args.exit and not args.gallery:
        parser.error("--exit is of a search: give --gallery, too; --out has every exit")


def work(args: argparse.Namespace) -> int:
    from reid_lab.runtime.command import run

    return run(args)
