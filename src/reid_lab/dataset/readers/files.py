"""What every reader asks of a folder, and how it says what is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from reid_lab.dataset.records import DatasetError

PICTURE = re.compile(r"\.(?:jpg|jpeg|png|bmp)$", re.IGNORECASE)


def pictures(folder: Path) -> list[str]:
    """Names of the JPEG, PNG and BMP files in `folder`, sorted; what else lies there is not ours.

    Raises:
        DatasetError: there is none.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if PICTURE.search(entry.name))
    if not names:
        raise DatasetError(f"{folder} holds no image (jpg, png, bmp): extract the release anew")
    return names


def require(name: str, root: Path, needed: Sequence[str], layout: Sequence[str]) -> None:
    """Whether `root` has the files and folders `needed`.

    Raises:
        DatasetError: it lacks some; the message shows the `layout` that is expected and the
            folder below `root` that has it, if one has.
    """
    missing = [part for part in needed if not (root / part).exists()]
    if not missing:
        return
    what = "does not exist" if not root.is_dir() else f"has no {', '.join(missing)}"
    below = sorted(p for p in root.glob("*") if p.is_dir()) if root.is_dir() else []
    inside = [p for p in below if all((p / part).exists() for part in needed)]
    hint = f"did you mean dataset.root={inside[0]}?" if inside else "set dataset.root"
    shown = "\n".join(f"    {root}/{line}" for line in layout)
    raise DatasetError(f"{name}: {root} {what}. Expected:\n{shown}\n  {hint}")
