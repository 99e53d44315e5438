"""Shared by all readers: list the images of a folder, and check the layout of a root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid_lab.dataset.records import DatasetError
from reid_lab.files.regular import no_folder
from reid_lab.images.files import ENDINGS, images_in, skipped_files_note


def image_names(folder: Path) -> list[str]:
    """Return the names of the images in `folder`, sorted.

    Raises:
        DatasetError: `folder` is no folder, or has no image.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} {no_folder(folder)}: a folder of images is expected")
    names = images_in(folder)
    if not names:
        note = skipped_files_note([folder])
        raise DatasetError(
            f"{folder} has no image ({ENDINGS}): extract the release again"
            + (f"; {note}" if note else "")
        )
    return names


def skipped_note(name: str, *folders: Path) -> tuple[str, ...]:
    """Return a note about the files in `folders` that are not images; () if there are none."""
    note = skipped_files_note(folder for folder in folders if folder.is_dir())
    return (f"{name}: {note}",) if note else ()


def require(name: str, root: Path, needed: Sequence[str], layout: Sequence[str]) -> None:
    """Check that `root` has the files and folders `needed`.

    Args:
        name: name of the data set, for messages.
        layout: lines that show the expected layout, for messages.

    Raises:
        DatasetError: some are missing. If a folder directly below `root` has them, it is named.
    """
    missing = [part for part in needed if not (root / part).exists()]
    if not missing:
        return
    what = f"has no {', '.join(missing)}"
    if not root.is_dir():
        what = no_folder(root)
    below = sorted(p for p in root.glob("*") if p.is_dir()) if root.is_dir() else []
    inside = [p for p in below if all((p / part).exists() for part in needed)]
    hint = f"did you mean dataset.root={inside[0]}?" if inside else "set dataset.root"
    expected = "\n".join(f"    {root}/{line}" for line in layout)
    raise DatasetError(f"{name}: {root} {what}. Expected:\n{expected}\n  {hint}")
