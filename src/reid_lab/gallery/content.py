"""Commands on the content of a gallery: `people`, `info` and `remove`. They do not import torch,
which is slow, except to remove images from an approximate index.
"""

from __future__ import annotations

import os
from argparse import Namespace

import numpy as np

from reid_lab.dataset.readers.own import normalise_label
from reid_lab.errors import UserError
from reid_lab.gallery import content_tables
from reid_lab.gallery_format.rows import GalleryRows, number_of
from reid_lab.gallery_format.writer import RowWriter, locked


def info(args: Namespace) -> int:
    content_tables.info(GalleryRows.open_rows(args.gallery))
    return 0


def people(args: Namespace) -> int:
    gallery = GalleryRows.open_rows(args.gallery)
    content_tables.people(gallery, np.flatnonzero(gallery.select(args.where)))
    return 0


def remove(args: Namespace) -> int:
    gallery = GalleryRows.open_rows(args.gallery)
    if args.dry_run:
        rows = _to_remove(gallery, args)
    elif gallery.card.index == "flat":
        with locked(gallery.folder):
            writer = RowWriter(GalleryRows.open_rows(gallery.folder))
            gallery = writer.gallery
            _ = gallery.checked  # a damaged gallery is not written anew
            rows = _to_remove(gallery, args)
            writer.remove(rows)
    else:
        gallery, rows = _remove_indexed(args)
    content_tables.removed(gallery, rows, args.dry_run)
    return 0


def _remove_indexed(args: Namespace) -> tuple[GalleryRows, np.ndarray]:
    """Remove images and build the index again."""
    from reid_lab.gallery.index import check_installed
    from reid_lab.gallery.store import SavedGallery
    from reid_lab.gallery.writer import extend

    gallery = SavedGallery.open(args.gallery)
    check_installed(gallery.card.index)
    with extend(gallery, gallery.card.fingerprint) as writer:
        gallery = writer.gallery
        rows = _to_remove(gallery, args)
        writer.remove(rows)
    return gallery, rows


def _to_remove(gallery: GalleryRows, args: Namespace) -> np.ndarray:
    """(N,) bool: images of the given people and files that match the filter.

    Raises:
        UserError: no selection was given, or it selects no image.
    """
    rows = gallery.select(args.where)
    filters = [f"where {args.where}"] if args.where.strip() else []
    if args.pid:
        numbers = [number_of(normalise_label(name)) for name in args.pid]
        rows &= np.isin(gallery.numbers["pid"], numbers)
        filters.append(f"of person {' or '.join(args.pid)}")
    if args.file:
        files = {os.path.normpath(path.absolute()) for path in args.file} | {*map(str, args.file)}
        rows &= np.array([path in files for path in gallery.paths()], bool)
        filters.append(f"from {' or '.join(map(str, args.file))}")
    if not filters:
        raise UserError("nothing to remove: give --pid, --where or --file")
    if not rows.any():
        raise UserError(
            f"{args.gallery} has no image {', '.join(filters)}: nothing was removed; "
            "reid-lab gallery people lists its people"
        )
    return rows
