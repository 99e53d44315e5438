"""What a path is that is not a regular file, for messages."""

from __future__ import annotations

import stat
from pathlib import Path

from reid_lab.images.files import escaped

KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFCHR: "is a device, not a regular file",
    stat.S_IFBLK: "is a device, not a regular file",
    stat.S_IFIFO: "is a pipe, not a regular file",
    stat.S_IFSOCK: "is a socket, not a regular file",
}


def no_file(path: Path) -> str:
    """Why there is no regular file at `path`, such as "does not exist" or "is a folder"."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        if path.is_symlink():
            return f"is a link to {escaped(path.readlink())}, which does not exist"
        return "does not exist"
    return KINDS.get(kind, "is not a regular file")
