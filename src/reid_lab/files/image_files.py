"""Which files are images by their names, and how a path is shown; without torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from reid_lab.errors import UserError

# what every reader, the gallery and the runtime take for images; `pixels` decodes each
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
ENDINGS = " ".join(SUFFIXES)
SYSTEM = {"thumbs.db", "desktop.ini"}  # what file managers leave behind, beside hidden files


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_skipped(name: str) -> bool:
    """Whether a file is neither an image nor what a file manager leaves behind."""
    return not (is_image(name) or name.startswith(".") or name.lower() in SYSTEM)


def images_in(folder: Path) -> list[str]:
    """Names of the images directly in `folder`, sorted."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if is_image(e.name) and not e.is_dir())


def find_images(folder: Path) -> tuple[list[Path], str]:
    """The images in `folder` and below, absolute and sorted, and a note about other files.

    What is hidden is left out.

    Raises:
        UserError: no folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{escaped(folder)} is no folder: give a folder of images")
    files = list(_files(folder.absolute()))
    found = sorted(path for path in files if is_image(path.name))
    note = skipped_note(path.name for path in files)
    if not found:
        ends = f"expected files that end in {ENDINGS}"
        raise UserError(f"{escaped(folder)} holds no image: {ends}" + (f"; {note}" if note else ""))
    return found, note


def skipped_files_note(folders: Iterable[Path]) -> str:
    """A note about the files directly in `folders` that are no images; empty without any."""
    return skipped_note(name for folder in folders for name in _names(folder))


def skipped_note(names: Iterable[str]) -> str:
    """'3 files are skipped: they do not end in .jpg ... (2 .gif, 1 .txt)'; empty without any."""
    endings = Counter(
        Path(name).suffix.lower() or "no ending" for name in names if is_skipped(name)
    )
    if not endings:
        return ""
    count = sum(endings.values())
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{often:,} {escaped(ending)}" for ending, often in most[:5]] + ["..."] * (
        len(most) > 5
    )
    skipped = (
        "1 file is skipped: it does" if count == 1 else f"{count:,} files are skipped: they do"
    )
    return f"{skipped} not end in {ENDINGS} ({', '.join(kinds)})"


def escaped(path: Path | str) -> str:
    """The path as text that any console and file takes: one line, no bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.is_dir()]


def _files(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        yield from (Path(folder, name) for name in names)
