"""`reid-lab runtime`: embed images with an exported network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reid_lab.cli.command import Command, Subparsers, accept_rate, batch_size, count, whole

if TYPE_CHECKING:
    from reid_lab.runtime.files import FileResult
    from reid_lab.runtime.model import Model

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
    from reid_lab.gallery_format.embedding_files import check_format
    from reid_lab.runtime.files import embed_to_file
    from reid_lab.runtime.images import expanded
    from reid_lab.runtime.model import Model

    if args.out:
        check_format(args.out)
    model = Model(args.folder, args.threads)
    paths, notes = expanded(args.images)
    for note in notes:
        _warn(note)
    broken = _search(model, paths, args) if args.gallery else set[str]()
    if args.out:
        written = embed_to_file(model, paths, args.out, batch_size=args.batch_size)
        for message in written.broken:
            if message not in broken:
                _warn(message)
        broken.update(written.broken)
        print(f"{written.path}: {written.images} images, exits {', '.join(written.exits)}")
    if broken:
        _warn(f"{len(broken):,} of {len(paths):,} images cannot be read and are left out")
    return int(bool(broken))


def _search(model: Model, paths: list[Path], args: argparse.Namespace) -> set[str]:
    """Print one line per match: image, rank, distance, pid, camid, path; return what is broken."""
    from reid_lab.files.regular import escaped
    from reid_lab.openset.thresholds import thresholds_of_kind
    from reid_lab.runtime.files import search_files
    from reid_lab.runtime.gallery import Gallery

    gallery = Gallery.open(args.gallery, model.manifest)
    rate, broken = args.false_accept_rate, set[str]()
    batches = search_files(
        model,
        paths,
        gallery,
        exit=args.exit,
        top=args.top,
        where=args.where,
        false_accept_rate=rate,
        batch_size=args.batch_size,
    )
    if rate is not None:
        accept = thresholds_of_kind(gallery.card.accept_thresholds, args.gallery)
        if note := accept.note(rate):
            _warn(note)
        if not accept.own:
            people = f"{accept.people:,} people of {accept.source}"
            _warn(f"the thresholds are of {people}, not of your own: reid-lab gallery calibrate")
    for batch in batches:
        for message in batch.broken:
            if message not in broken:
                _warn(message)
        broken.update(batch.broken)
        for result in batch.results:
            if result.verdict is not None:
                _print_verdict(result)
        for result in batch.results:
            for position, match in enumerate(result.matches, 1):
                cells = [match.person or "-", match.camera or "-", match.path]
                distance = f"{match.distance:.4f}"
                print(escaped(result.path), position, distance, *map(escaped, cells), sep="\t")
    return broken


def _print_verdict(result: FileResult) -> None:
    """Print one line: image, 'verdict', distance, verdict, people."""
    from reid_lab.files.regular import escaped

    verdict = result.verdict
    assert verdict is not None
    names = " | ".join(escaped(person.person) for person in verdict.people)
    nearest = f"{verdict.people[0].distance:.4f}" if verdict.people else "-"
    print(escaped(result.path), "verdict", nearest, verdict.verdict, names or "-", sep="\t")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
