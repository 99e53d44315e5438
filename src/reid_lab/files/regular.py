"""Paths in messages: escaped, and what one is that is not a regular file, or not a folder."""

from __future__ import annotations

import stat
from pathlib import Path

FOLDER = "a folder"
KINDS = {
    stat.S_IFDIR: FOLDER,
    stat.S_IFREG: "a file",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def escaped(path: Path | str) -> str:
    """Escape all characters that are not printable: one line of valid UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def no_file(path: Path) -> str:
    """Why there is no regular file at `path`, such as "does not exist" or "is a folder"."""
    return _why_not(path, "a regular file")


def no_folder(path: Path) -> str:
    """Why there is no folder at `path`, such as "does not exist" or "is a file, not a folder"."""
    return _why_not(path, FOLDER)


def _why_not(path: Path, wanted: str) -> str:
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        if path.is_symlink():
            return f"is a link to {escaped(path.readlink())}, which does not exist"
        return "does not exist"
    what = KINDS.get(kind)
    if what is None:
        return f"is not {wanted}"
    return f"is {what}" if what == FOLDER else f"is {what}, not {wanted}"
