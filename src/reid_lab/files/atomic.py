"""Write files atomically: after a crash, either the old or the new file is complete.

All files of reid_lab are written through this module.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError, causes

SUFFIX = ".part"
STALE_AFTER = 3600  # seconds without a write: its writer has ended
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskFullError(UserError):
    """A file could not be written because the disk is full; the old one is unchanged."""


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The temporary file is in the folder of `path`, so the rename never copies across file systems.
    If the block raises, the temporary file is removed and `path` is unchanged.

    Args:
        path: the file to write; its folder is created if missing.
        durable: flush the file to disk before the rename, so that a power cut also leaves the old
            or the new file. Turn it off for many small files that can be recreated.

    Raises:
        DiskFullError: there is not enough space.
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if durable:  # it lists the folder, which may hold many small files
        remove_stale(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}{SUFFIX}")
    try:
        yield beside
        if durable:
            _flush(beside)
        beside.replace(path)
        if durable:
            _flush(path.parent)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if is_disk_full(error):
            raise disk_full(path) from error
        raise


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically; see `replacing`."""
    with replacing(path, durable=durable) as beside:
        beside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, in UTF-8 with the line ends of `text`; see `replacing`."""
    write_bytes(path, valid_text(text).encode())


def valid_text(text: str) -> str:
    r"""Escape what UTF-8 cannot hold: the byte E9 of a file name becomes `\udce9`."""
    return text.encode(errors="backslashreplace").decode()


def write_torch(path: Path, content: Any) -> None:
    """Write an object by `torch.save`, atomically; see `replacing`."""
    import torch  # slow

    # through a file of Python's: torch's own writer hides a full disk
    with replacing(path) as beside, beside.open("wb") as file:
        torch.save(content, file)


def flush_all() -> None:
    """Flush files that were written without `durable`, if the platform can."""
    if hasattr(os, "sync"):
        os.sync()


def remove_stale(path: Path) -> None:
    """Remove temporary files of killed writers of `path`."""
    for part in path.parent.glob(f".{escape(path.name)}.*{SUFFIX}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE_AFTER:
                part.unlink()


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or its cause, is a full disk."""
    return any(isinstance(e, OSError) and e.errno in FULL for e in causes(error))


def first_disk_full(error: BaseException, folder: Path) -> DiskFullError:
    """The first file that could not be written for a full disk; later ones are of the clean-up."""
    found = [e for e in causes(error) if isinstance(e, DiskFullError)]
    return found[-1] if found else disk_full(folder / "files")


def disk_full(path: Path) -> DiskFullError:
    """The error of a full disk when writing `path`."""
    try:
        free = f"{shutil.disk_usage(path.parent).free / 2**20:,.1f} MiB free there without it"
    except OSError:
        free = "free space unknown"
    kept = f"the previous {path.name} is unchanged" if path.exists() else "nothing was written"
    return DiskFullError(
        f"no space left to write {path} ({free}; {kept}): free space on that disk, or choose "
        "another folder, then start again"
    )


def _flush(path: Path) -> None:
    """Flush a file or a folder to disk, if the platform can."""
    try:
        handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    except OSError:  # a folder cannot be opened on Windows
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in FULL:
            raise
    finally:
        os.close(handle)
