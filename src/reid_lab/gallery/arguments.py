"""What the command line takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reid_lab.cli.command import batch_size, count, program

INDEXES = ("flat", "ivf", "hnsw", "ivf_pq", "sq8")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command with its arguments. Exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(program("gallery"))
    parser.description = "Keep the embeddings of a folder of images, and find people in them."
    commands = parser.add_subparsers(dest="command", required=True)
    _build(commands.add_parser("build", help="embed a folder of images"))
    _add(commands.add_parser("add", help="embed what is new in a folder"))
    _search(commands.add_parser("search", help="find who is in an image"))
    _info(commands.add_parser("info", help="what a gallery holds"))
    _plan(commands.add_parser("plan", help="what each index costs and loses"))
    return parser.parse_args(argv)


def _build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the gallery's folder")
    _embedding(parser)
    parser.add_argument("--exit", help="of the network; default: the last one")
    parser.add_argument(
        "--index", choices=INDEXES, default="flat", help="%(default)s, unless `plan` says otherwise"
    )
    parser.add_argument(
        "--metric", choices=("euclidean", "cosine"), default="euclidean", help="%(default)s"
    )
    parser.add_argument("--half", action="store_true", help="keep float16: half the bytes")
    parser.add_argument("--overwrite", action="store_true", help="replace a gallery of that name")
    parser.add_argument(
        "--pattern",
        help="regular expression with groups pid and camid (any text), searched in an image's "
        "path; default: Market-1501's PPPP_cC in the file's name, else a folder for each person",
    )


def _add(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    _embedding(parser)


def _search(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    _checkpoint(parser)
    parser.add_argument("--image", type=Path, nargs="+", required=True, help="who to find")
    parser.add_argument("--top", type=count, default=10, help="matches of each, %(default)s")
    parser.add_argument("--html", type=Path, help="write a page of pictures instead of a table")


def _info(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)


def _plan(parser: argparse.ArgumentParser) -> None:
    _gallery(parser)
    parser.add_argument("--size", type=count, help="images to plan for")
    parser.add_argument(
        "--queries", type=Path, help="a gallery of queries; default: images of GALLERY itself"
    )
    parser.add_argument("--most", type=count, default=200, help="queries at most, %(default)s")
    parser.add_argument(
        "--depth", type=count, default=100, help="images that a list holds, %(default)s"
    )


def _gallery(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gallery", type=Path, help="its folder")


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a run: .../last.ckpt")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; auto takes a GPU")
    parser.add_argument(
        "--batch-size", type=batch_size, default=64, help="images at a time, %(default)s"
    )


def _embedding(parser: argparse.ArgumentParser) -> None:
    _checkpoint(parser)
    parser.add_argument("--images", type=Path, required=True, help="a folder, with its subfolders")
    parser.add_argument("--strict", action="store_true", help="status 1 if an image is broken")
