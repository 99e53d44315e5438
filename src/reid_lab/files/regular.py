"""Paths in messages: escaped, and what one is that is not a regular file."""

from __future__ import annotations

import stat
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFCHR: "is a device, not a regular file",
    stat.S_IFBLK: "is a device, not a regular file",
    stat.S_IFIFO: "is a pipe, not a regular file",
    stat.S_IFSOCK: "is a socket, not a regular file",
}


def escaped(path: Path | str) -> str:
    """Escape all characters that are not printable: one line of valid UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def no_file(path: Path) -> str:
    """Why there is no regular file at `path`, such as "does not exist" or "is a folder"."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        if path.is_symlink():
            return f"is a link to {escaped(path.readlink())}, which does not exist"
        return "does not exist"
    return KINDS.get(kind, "is not a regular file")
