"""`reid-lab embed`: write the embeddings of any images to a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from reid_lab.cli.command import Command, Subparsers
from reid_lab.cli.gallery import add_network, add_pattern
from reid_lab.cli.warned import warned

EXAMPLES = """\
examples:
  reid-lab embed --checkpoint last.ckpt --images people/ --out people.npz
  reid-lab embed --checkpoint last.ckpt --images list.csv --out people.parquet --pool tracklet
  reid-lab embed --checkpoint last.ckpt --images frame.jpg --boxes boxes.csv --out frame.npz \\
    --exit stage2 --exit fusion
"""


def add(commands: Subparsers) -> None:
    parser = commands.add_parser(
        "embed",
        help="write the embeddings of any images to a file",
        description="Write the embeddings of images, boxes or tracklets to a file.",
        epilog=EXAMPLES,
    )
    add_network(parser)
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="a folder with its subfolders; a CSV file with a column path, and optionally pid, "
        "camid, tracklet, box or left, top, right, bottom; or an image",
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        help="if --images is one image: a CSV file of the boxes in it, with a column box or left, "
        "top, right, bottom, and optionally pid, camid, tracklet",
    )
    parser.add_argument("--out", type=Path, required=True, help="output file, .npz or .parquet")
    parser.add_argument(
        "--exit",
        action="append",
        metavar="NAME",
        help="exit to embed at; may be repeated; default: all",
    )
    parser.add_argument(
        "--pool",
        choices=("tracklet",),
        help="write one row for each tracklet: the mean of its images",
    )
    parser.add_argument(
        "--metric",
        choices=("euclidean", "cosine"),
        help="distance that pooled tracklets are compared by, that of the gallery: for cosine, "
        "images are scaled to length 1 before they are pooled; default: euclidean",
    )
    add_pattern(parser)
    parser.add_argument(
        "--strict", action="store_true", help="exit with status 1 if an image cannot be read"
    )
    parser.set_defaults(command=Command(work, interrupted="interrupted: nothing was written"))


def work(args: argparse.Namespace) -> int:
    from reid_lab.cli.show import gallery as show
    from reid_lab.gallery.embedded_file import embed_to_file
    from reid_lab.output.console import counter

    with counter("embed") as tell, warned():
        result = embed_to_file(
            args.images,
            args.checkpoint,
            args.out,
            boxes=args.boxes,
            pattern=args.pattern,
            exits=args.exit,
            pool=bool(args.pool),
            metric=args.metric,
            batch_size=args.batch_size,
            device=args.device,
            progress=tell,
        )
    show.broken(result.broken)
    show.note(result.note)
    show.embedded(result)
    return int(bool(result.broken) and args.strict)
