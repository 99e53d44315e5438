"""The images that `reid-lab embed` reads: a folder, a CSV file, or the boxes of a frame."""

from __future__ import annotations

import os
from pathlib import Path

from reid_lab.dataset.readers.csv_file import CsvTable, read_boxes, read_table
from reid_lab.dataset.readers.own import given_label, normalise_label, raise_problems
from reid_lab.errors import Note, UserError, joined, with_options
from reid_lab.files.regular import escaped, no_file
from reid_lab.gallery.images import FOLDERS, Labelled, choose_pattern, label
from reid_lab.images.boxes import SIDES
from reid_lab.images.files import find_images

_BY_FOLDER = "each folder is a person (no file is named PPPP_cC...);"
NAMED_BY_FOLDER = Note(
    f"{_BY_FOLDER} pattern='' leaves people unknown",
    f"{_BY_FOLDER} --pattern '' leaves people unknown",
)
LABELS = ("pid", "camid", "tracklet")
BOXES = ("box", *SIDES)


def read_images(
    images: Path, boxes: Path | None = None, pattern: str | None = None
) -> tuple[list[Labelled], str]:
    """List the images to embed.

    Args:
        images: a folder; a CSV file with the column path and optionally pid, camid, tracklet, and
            box or left, top, right, bottom; or an image.
        boxes: a CSV file of the boxes in that image.
        pattern: finds people and cameras in the paths of a folder, see `label`.

    Returns:
        The images, and a note about what was skipped or assumed ("" for none).

    Raises:
        UserError: no such file, an empty folder, an invalid CSV file, or options that do not fit.
    """
    if not images.is_file() and not images.is_dir():
        raise UserError(
            f"{escaped(images)} {no_file(images)}: give a folder, a CSV file or an image"
        )
    listed = images.suffix.lower() == ".csv" and not images.is_dir()
    if boxes is not None and (listed or images.is_dir()):
        kind = "a CSV file" if listed else "a folder"
        raise UserError(
            f"boxes are of one frame, and {escaped(images)} is {kind}: give an image, or a CSV "
            "file with columns path and box"
        )
    if pattern is not None and not images.is_dir():
        text = f"pattern is for a folder, and {escaped(images)} is not one"
        raise with_options(UserError(text), f"--{text}")
    if images.is_dir():
        labelled, _, note = read_labelled(images, pattern)
        return labelled, note
    if listed:
        return _read_list(images), ""
    return [Labelled(images.absolute())] if boxes is None else _read_frame(images, boxes), ""


def read_labelled(folder: Path, pattern: str | None) -> tuple[list[Labelled], str, str]:
    """The images of a folder with the labels that a pattern finds in their paths.

    Args:
        folder: folder, searched with its subfolders.
        pattern: see `label`; None chooses one, see `choose_pattern`.

    Returns:
        The images, the pattern, and a note about what was skipped or assumed ("" for none).

    Raises:
        UserError: no images, or an invalid pattern.
    """
    paths, note = find_images(folder)
    chosen = choose_pattern(paths, folder) if pattern is None else pattern
    if chosen == FOLDERS and pattern is None:
        note = joined([note, NAMED_BY_FOLDER])
    images = label(paths, chosen)
    if pattern and not any(image.person or image.camera for image in images):
        why = f"matches no path, such as {escaped(paths[0])}: people and cameras are unknown"
        unmatched = (
            f"warning: {given} {why}" for given in (f"{pattern=}", f"--pattern '{pattern}'")
        )
        note = joined([note, Note(*unmatched)])
    return images, chosen, note


def _read_list(file: Path) -> list[Labelled]:
    """The lines of a CSV file; paths are relative to its folder."""
    table = read_table(file, ("path",), (*LABELS, *BOXES), "Correct the CSV file")
    base = Path(os.path.normpath(file.absolute().parent))
    paths = [Path(os.path.normpath(base / text)) for text in table.column("path")]
    missing = [
        f"line {line}: {text}"
        for line, text, path in zip(table.lines, table.column("path"), paths, strict=True)
        if not path.is_file()
    ]
    raise_problems(file, missing, "Expected paths of files, relative to the folder of the CSV file")
    return _labelled(table, paths)


def _read_frame(image: Path, file: Path) -> list[Labelled]:
    """The boxes of a frame, one per line."""
    table = read_table(file, (), (*LABELS, *BOXES), "Correct the CSV file of boxes")
    if not {*BOXES} & {*table.columns}:
        raise UserError(
            f"{escaped(file)}, line 1: no column box, or columns left, top, right, bottom; the "
            f"header is {','.join(table.columns)!r}"
        )
    return _labelled(table, [image.absolute()] * len(table.lines))


def _labelled(table: CsvTable, paths: list[Path]) -> list[Labelled]:
    columns = {
        name: [(given_label if name == "pid" else normalise_label)(t) for t in table.column(name)]
        for name in LABELS
        if name in table.columns
    }
    blank = [""] * len(paths)
    people, cameras, tracklets = (columns.get(name, blank) for name in LABELS)
    boxes = read_boxes(table)
    whole = [None] * len(paths)
    return list(map(Labelled, paths, people, cameras, tracklets, whole if boxes is None else boxes))
