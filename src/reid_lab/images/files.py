"""Find image files by their names, and print paths safely. Without torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from reid_lab.errors import UserError, first
from reid_lab.files.regular import escaped

# of image files, for readers, gallery and runtime; `pixels` decodes them all
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
ENDINGS = " ".join(SUFFIXES)
SYSTEM = {"thumbs.db", "desktop.ini"}  # files of file managers, besides hidden ones


def is_image(name: str) -> bool:
    """Return whether the name is that of an image file."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_skipped(name: str) -> bool:
    """Return whether the name is neither that of an image nor of a hidden or system file."""
    return not (is_image(name) or name.startswith(".") or name.lower() in SYSTEM)


def images_in(folder: Path) -> list[str]:
    """Return the names of the images directly in `folder`, sorted."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if is_image(e.name) and not e.is_dir())


def find_images(folder: Path) -> tuple[list[Path], str]:
    """Find the images in `folder` and below it, without hidden files and folders.

    Returns:
        Absolute paths, sorted, and a note about files that are skipped ("" for none).

    Raises:
        UserError: `folder` is not a folder, or has no image.
    """
    if not folder.is_dir():
        raise UserError(f"{escaped(folder)} is not a folder: expected a folder of images")
    files = list(_files(folder.absolute()))
    images = sorted(path for path in files if is_image(path.name))
    note = skipped_note(path.name for path in files)
    if not images:
        ends = f"expected files that end in {ENDINGS}"
        raise UserError(f"{escaped(folder)} has no image: {ends}" + (f"; {note}" if note else ""))
    return images, note


def skipped_files_note(folders: Iterable[Path]) -> str:
    """Return a note about the files directly in `folders` that are skipped; "" for none."""
    return skipped_note(name for folder in folders for name in _names(folder))


def skipped_note(names: Iterable[str]) -> str:
    """Return '3 files are skipped: they do not end in .jpg ... (2 .gif, 1 .txt)'; "" for none."""
    endings = Counter(
        Path(name).suffix.lower() or "no ending" for name in names if is_skipped(name)
    )
    if not endings:
        return ""
    count = sum(endings.values())
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    kinds = first([f"{often:,} {escaped(ending)}" for ending, often in most])
    skipped = (
        "1 file is skipped: it does" if count == 1 else f"{count:,} files are skipped: they do"
    )
    return f"{skipped} not end in {ENDINGS} ({', '.join(kinds)})"


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.is_dir()]


def _files(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (Path(folder, name) for name in names)
