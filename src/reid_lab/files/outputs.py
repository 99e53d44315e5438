"""Where a command may write: checked before any work. Without torch."""

from __future__ import annotations

import os
from pathlib import Path

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped

CARD = "gallery.json"  # file of a gallery, see `reid_lab.gallery_format.card`
MANIFEST, STAGES = "manifest.json", "stages"  # file of an export, see `reid_lab.runtime.manifest`
# folders that are replaced as a whole, and what each of them holds
REPLACED = {"gallery": (CARD,), "export": (MANIFEST, STAGES)}


def check_outside(path: Path, error: type[UserError] = UserError) -> None:
    """Check that `path` is not inside of a gallery or an export, through links, too.

    Args:
        path: a file or folder, which may be missing.
        error: class of the error.

    Raises:
        UserError: it is, and would be removed when the gallery or the export is overwritten.
    """
    above = path.resolve().parents
    for what, names in REPLACED.items():
        for outer in above:
            if all((outer / name).exists() for name in names):
                raise error(
                    f"{escaped(path)} is inside of the {what} {escaped(outer)}, and would be "
                    "removed when that is overwritten: choose a folder beside it"
                )


def check_writable(path: Path) -> None:
    """Check that a command may and can write to `path`, a file or folder; it may be missing.

    Raises:
        UserError: `path` is inside of a gallery or an export, or cannot be written.
    """
    check_outside(path)
    whole = path.absolute()
    above = whole if path.is_dir() else next(each for each in whole.parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(
            f"{escaped(path)} cannot be written: {escaped(above)} is not a folder with write "
            "permission"
        )
