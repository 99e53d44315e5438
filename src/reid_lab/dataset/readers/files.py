"""What every reader asks of a folder, and how it says what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid_lab.dataset.records import DatasetError
from reid_lab.files.image_files import ENDINGS, images_in, skipped_files_note


def image_names(folder: Path) -> list[str]:
    """Names of the images in `folder`, sorted.

    Raises:
        DatasetError: there is none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file where a folder of images is expected")
    names = images_in(folder)
    if not names:
        note = skipped_files_note([folder])
        raise DatasetError(
            f"{folder} holds no image ({ENDINGS}): extract the release anew"
            + (f"; {note}" if note else "")
        )
    return names


def skipped_note(name: str, *folders: Path) -> tuple[str, ...]:
    """Return a note about the files in `folders` that are not images; () if there are none."""
    note = skipped_files_note(folder for folder in folders if folder.is_dir())
    return (f"{name}: {note}",) if note else ()


def require(name: str, root: Path, needed: Sequence[str], layout: Sequence[str]) -> None:
    """Whether `root` has the files and folders `needed`.

    Raises:
        DatasetError: it lacks some; the message shows the `layout` that is expected and the
            folder below `root` that has it, if one has.
    """
    missing = [part for part in needed if not (root / part).exists()]
    if not missing:
        return
    what = f"has no {', '.join(missing)}"
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
    below = sorted(p for p in root.glob("*") if p.is_dir()) if root.is_dir() else []
    inside = [p for p in below if all((p / part).exists() for part in needed)]
    hint = f"did you mean dataset.root={inside[0]}?" if inside else "set dataset.root"
    shown = "\n".join(f"    {root}/{line}" for line in layout)
    raise DatasetError(f"{name}: {root} {what}. Expected:\n{shown}\n  {hint}")
