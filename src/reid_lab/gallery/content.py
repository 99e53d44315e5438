"""Remove people and images from a gallery. No torch, except for an approximate index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.own import normalise_label
from reid_lab.errors import UserError, with_options
from reid_lab.gallery_format.rows import GalleryRows, number_of
from reid_lab.gallery_format.writer import RowWriter, locked
from reid_lab.output import arguments


@dataclass(frozen=True)
class RemovalResult:
    """Images that were removed, or would be.

    Attributes:
        before: gallery with its N images before the removal.
        rows: (N,) bool, True for selected images.
    """

    before: GalleryRows
    rows: np.ndarray

    def __repr__(self) -> str:
        return f"RemovalResult(before={self.before!r}, removed={self.removed})"

    @property
    def removed(self) -> int:
        """Number of selected images."""
        return int(self.rows.sum())


def remove_images(
    gallery: GalleryRows | Path | str,
    *,
    people: str | int | Sequence[str | int] = (),
    files: Path | str | Sequence[Path | str] = (),
    where: str = "",
    dry_run: bool = False,
) -> RemovalResult:
    """Remove the images that all of the given conditions select.

    Image files are deleted if they are inside the gallery's folder, as those of a service are.

    Args:
        gallery: gallery, or its folder.
        people: names of people, or their pids; one, or several.
        files: paths of image files; one, or several.
        where: filter, such as "site=north and time<2026-01-01".
        dry_run: select the images, remove nothing.

    Raises:
        UserError: no condition, another type of value, an invalid filter, or no image is selected.
        GalleryError: not a gallery, a damaged one, or another process writes.
    """
    selection = (arguments.people("people", people), arguments.paths("files", files), where)
    if not isinstance(gallery, GalleryRows):
        gallery = GalleryRows.open_rows(gallery)
    if dry_run:
        return RemovalResult(gallery, _selected(gallery, *selection))
    if gallery.card.index != "flat":
        return _removed_from_index(gallery.folder, selection)
    with locked(gallery.folder):
        writer = RowWriter(GalleryRows.open_rows(gallery.folder))
        gallery = writer.gallery
        _ = gallery.checked  # a damaged gallery is not written anew
        rows = _selected(gallery, *selection)
        writer.remove(rows)
    return RemovalResult(gallery, rows)


def _removed_from_index(
    folder: Path, selection: tuple[Sequence[str | int], Sequence[Path], str]
) -> RemovalResult:
    """Remove images and build the index again."""
    from reid_lab.gallery.index import check_installed
    from reid_lab.gallery.store import SavedGallery
    from reid_lab.gallery.writer import extend

    gallery = SavedGallery.open(folder)
    check_installed(gallery.card.index)
    with extend(gallery, gallery.card.fingerprint) as writer:
        gallery = writer.gallery
        rows = _selected(gallery, *selection)
        writer.remove(rows)
    return RemovalResult(gallery, rows)


def _selected(
    gallery: GalleryRows, people: Sequence[str | int], files: Sequence[Path], where: str
) -> np.ndarray:
    """(N,) bool: images of the given people and files that match the filter.

    Raises:
        UserError: no selection was given, or it selects no image.
    """
    rows = gallery.select(where)
    filters = [f"where {where}"] if where.strip() else []
    if people:
        numbers = [
            number_of(normalise_label(one)) if isinstance(one, str) else one for one in people
        ]
        rows &= np.isin(gallery.numbers["pid"], numbers)
        filters.append(f"of person {' or '.join(map(str, people))}")
    if files:
        paths = {os.path.normpath(path.absolute()) for path in files} | {*map(str, files)}
        rows &= np.array([path in paths for path in gallery.paths()], bool)
        filters.append(f"from {' or '.join(map(str, files))}")
    if not filters:
        raise with_options(
            UserError("nothing to remove: give people, where or files"),
            "nothing to remove: give --pid, --where or --file",
        )
    if not rows.any():
        raise UserError(
            f"{gallery.folder} has no image {', '.join(filters)}: nothing was removed; "
            "reid-lab gallery people lists its people"
        )
    return rows
