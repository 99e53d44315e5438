"""The images that a gallery is built from: a folder or a CSV file, with metadata for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reid_lab.dataset.readers.csv_file import CsvTable, read_table
from reid_lab.dataset.readers.own import given_label, normalise_label, raise_problems
from reid_lab.errors import UserError, joined
from reid_lab.files.regular import escaped
from reid_lab.gallery.image_lists import read_labelled
from reid_lab.gallery.images import Labelled, label
from reid_lab.images.boxes import SIDES
from reid_lab.images.files import find_images

LABELS = ("pid", "camid")
MOST = 100  # columns of metadata


def read_gallery_images(
    images: Path, metadata: Path | None = None, pattern: str | None = None
) -> tuple[list[Labelled], str, str]:
    """List the images of a gallery to build; see `with_metadata` for the CSV files.

    Args:
        images: folder, searched with its subfolders, or CSV file of images and metadata.
        metadata: CSV file for the images of a folder.
        pattern: finds people and cameras in paths, see `label`; None chooses one for a folder.

    Returns:
        The images, the pattern, and a note about what was skipped or assumed ("" for none).

    Raises:
        UserError: no images, an invalid CSV file or pattern.
    """
    if _is_list(images):
        return _listed(images, metadata, pattern or ""), pattern or "", ""
    found, chosen, note = read_labelled(images, pattern)
    found, more = with_metadata(found, metadata)
    return found, chosen, joined([note, more])


def read_more_images(
    images: Path, metadata: Path | None, pattern: str
) -> tuple[list[Labelled], str]:
    """List images to add to a gallery whose card has `pattern`; as `read_gallery_images`."""
    if _is_list(images):
        return _listed(images, metadata, pattern), ""
    paths, note = find_images(images)
    found, more = with_metadata(label(paths, pattern), metadata)
    return found, joined([note, more])


def with_metadata(images: Sequence[Labelled], file: Path | None) -> tuple[list[Labelled], str]:
    """The images with the values of their lines in a CSV file.

    The column `path` is relative to the file's folder; `pid` and `camid`, if not empty, replace the
    pattern's labels; every other column is metadata, by its name in lower case.

    Returns:
        The images, and a note about images without a line ("" for none).

    Raises:
        UserError: an invalid file, or one without a line for any of the images.
    """
    if file is None:
        return list(images), ""
    table = _read(file)
    rows = dict(zip(_paths(table), table.cells, strict=True))
    found = [
        _filled(image, table.columns, rows[image.path]) if image.path in rows else image
        for image in images
    ]
    missing = [image.path for image in images if image.path not in rows]
    if len(missing) == len(images):
        raise UserError(
            f"{escaped(file)} has no line for any of the images, such as {escaped(missing[0])}: "
            "its column path is relative to the folder of the CSV file"
        )
    if not missing:
        return found, ""
    first = escaped(missing[0])
    return found, f"{len(missing):,} images have no line in {escaped(file)}, such as {first}"


def _is_list(images: Path) -> bool:
    return images.suffix.lower() == ".csv" and images.is_file()


def _listed(file: Path, metadata: Path | None, pattern: str) -> list[Labelled]:
    """The lines of a CSV file."""
    if metadata is not None:
        raise UserError(
            f"metadata is for a folder, and {escaped(file)} is a CSV file: put the columns there"
        )
    table = _read(file)
    paths = _paths(table)
    missing = [
        f"line {line}: {escaped(path)}"
        for line, path in zip(table.lines, paths, strict=True)
        if not path.is_file()
    ]
    raise_problems(file, missing, "Expected paths of files, relative to the folder of the CSV file")
    images = label(paths, pattern)
    cells = zip(images, table.cells, strict=True)
    return [_filled(image, table.columns, row) for image, row in cells]


def _read(file: Path) -> CsvTable:
    table = read_table(file, ("path",), (), "Give a CSV file with a column path")
    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if twice or "" in table.columns or len(table.columns) > MOST:
        raise UserError(
            f"{escaped(file)}, line 1: the header is {','.join(table.columns)!r}: name each column "
            f"once, {MOST} at most"
        )
    boxes = [name for name in ("box", *SIDES) if name in table.columns]
    if boxes:
        raise UserError(
            f"{escaped(file)}, line 1: a gallery holds whole images, and there are boxes (column "
            f"{boxes[0]}): save their crops as images, or leave the column out"
        )
    first: dict[Path, int] = {}
    repeated = [
        f"line {line}: {escaped(path)} repeats line {first[path]}"
        for line, path in zip(table.lines, _paths(table), strict=True)
        if first.setdefault(path, line) != line
    ]
    raise_problems(file, repeated, "Expected each image once: remove one of the lines")
    return table


def _paths(table: CsvTable) -> list[Path]:
    base = Path(os.path.normpath(table.path.absolute().parent))
    return [Path(os.path.normpath(base / text)) for text in table.column("path")]


def _filled(image: Labelled, columns: Sequence[str], row: Sequence[str]) -> Labelled:
    cells = dict(zip(columns, row, strict=True))
    person = given_label(cells.get("pid", ""))
    camera = normalise_label(cells.get("camid", ""))
    return image._replace(
        person=person or image.person,
        camera=camera or image.camera,
        values={name: text for name, text in cells.items() if name not in ("path", *LABELS)},
    )
