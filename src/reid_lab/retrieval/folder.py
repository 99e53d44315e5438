"""Writing into a saved gallery's folder: behind what is counted, by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reid_lab.files.atomic import disk_full, is_disk_full
from reid_lab.files.folders import locked as locked_file
from reid_lab.files.gallery_files import CARD, GalleryError

LOCK = ".lock"


def put(path: Path, start: int, data: bytes | memoryview) -> None:
    """Write `data` at byte `start` and cut off what came behind; on the disk when it returns.

    Raises:
        DiskFullError: there is no space for it; nothing is left behind `start`.
    """
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(start)
        file.seek(start)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                file.truncate(start)
            raise (disk_full(path.parent / CARD) if is_disk_full(error) else error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of `folder`. The lock ends with the process, however it ends.

    Raises:
        GalleryError: another process writes there.
    """
    message = f"{folder} is being written to by another process: wait until it has ended"
    with locked_file(folder / LOCK, GalleryError(message)):
        yield
