"""`reid-lab runtime`: embed and search with an exported network."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped
from reid_lab.gallery_format.embedding_files import EmbeddedImages, check_format, write_embeddings
from reid_lab.openset.thresholds import thresholds_of_kind
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.images import PixelBatch, batches, expanded
from reid_lab.runtime.model import Model


def run(args: argparse.Namespace) -> int:
    """Embed images, search a gallery; return 1 if an image cannot be read."""
    if args.out:
        check_format(args.out)
    model = Model(args.folder, args.threads)
    paths, notes = expanded(args.images)
    for note in notes:
        _warn(note)
    broken: set[str] = set()
    if args.gallery:
        _search(model, _read(model, paths, args.batch_size, broken), args)
    if args.out:
        _embed(model, _read(model, paths, args.batch_size, broken), args.out)
    if broken:
        _warn(f"{len(broken):,} of {len(paths):,} images cannot be read and are left out")
    return int(bool(broken))


def _read(model: Model, paths: list[Path], most: int, broken: set[str]) -> Iterator[PixelBatch]:
    """Read images in batches; messages of broken files are printed and added to `broken`."""
    for batch in batches(paths, model.image, most):
        for message in dict.fromkeys(batch.broken):
            if message not in broken:
                _warn(message)
        broken.update(batch.broken)
        if batch.paths:
            yield batch


def _embed(model: Model, read: Iterable[PixelBatch], out: Path) -> None:
    """Write every exit's embeddings of all images to `out`.

    Raises:
        UserError: no image can be read.
    """
    model.open_whole()
    paths: list[str] = []
    parts = []
    for batch in read:
        paths += map(str, batch.paths)
        parts.append(model.embed(batch.pixels))
    if not parts:
        raise UserError(f"none of the images can be read: {out} is not written")
    exits = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    write_embeddings(out, EmbeddedImages(model.manifest.fingerprint, exits, np.array(paths)))
    print(f"{out}: {len(paths)} images, exits {', '.join(exits)}")


def _search(model: Model, read: Iterable[PixelBatch], args: argparse.Namespace) -> None:
    """Print one line per match: image, rank, distance, pid, camid, path."""
    gallery = Gallery.open(args.gallery, model.manifest)
    gallery.selected(args.where)  # an invalid filter is an error before the first image
    exit = gallery.query_exit(args.exit, args.false_accept_rate is not None)
    model.manifest.exit(exit)
    if args.false_accept_rate is not None:
        accept = thresholds_of_kind(gallery.card.accept_thresholds, args.gallery)
        if note := accept.note(args.false_accept_rate):
            _warn(note)
        if not accept.own:
            people = f"{accept.people:,} people of {accept.source}"
            _warn(f"the thresholds are of {people}, not of your own: reid-lab gallery calibrate")
    for batch in read:
        rows = model.embed_until(batch.pixels, exit)
        found = gallery.search(rows, args.top, args.where)
        if args.false_accept_rate is not None:
            _print_verdicts(gallery, batch.paths, rows, args)
        for path, near, which in zip(batch.paths, *found, strict=True):
            for position, (distance, row) in enumerate(zip(near, which, strict=True), 1):
                names = gallery.name(gallery.pids[row]), gallery.name(gallery.camids[row], "camid")
                cells = [*(name or "-" for name in names), gallery.path(row)]
                print(escaped(path), position, f"{distance:.4f}", *map(escaped, cells), sep="\t")


def _print_verdicts(
    gallery: Gallery, paths: list[Path], rows: np.ndarray, args: argparse.Namespace
) -> None:
    """Print one line per query: image, 'verdict', distance, verdict, people."""
    judged = gallery.verdicts(rows, args.false_accept_rate, args.where)
    for path, verdict in zip(paths, judged, strict=True):
        names = " | ".join(escaped(person.person) for person in verdict.people)
        nearest = f"{verdict.people[0].distance:.4f}" if verdict.people else "-"
        print(escaped(path), "verdict", nearest, verdict.verdict, names or "-", sep="\t")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
