"""Replace a folder as a whole: one process builds it beside the old one and swaps it in.

Beside `people/` there is then `.people.writing/` with a lock, the folder being built (`new`) and,
between two renames, the replaced one (`old`). The next process removes or restores what a killed
one has left there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from reid_lab.errors import UserError
from reid_lab.files.atomic import disk_full, is_disk_full

NEW, OLD, LOCK = "new", "old", "lock"
PATIENCE = 10  # seconds that a reader waits for a swap


@contextmanager
def locked(path: Path, busy: UserError, timeout: float = 0) -> Iterator[None]:
    """Hold the lock file `path`. The lock ends with the process, even if it is killed.

    Raises:
        UserError: `busy`, if another process holds it; or `path` is a link to another file, or
            cannot be written.
    """
    if path.is_symlink():
        raise UserError(f"{path} is a link, a lock file is expected: remove it")
    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        try:  # filelock takes some files that cannot be made for held ones
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror})") from error
        raise busy from None
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(f"{path} cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder, which is renamed to `path` if the block succeeds.

    If the block raises, the folder is removed, with parents that were missing, and `path` is
    unchanged.

    Raises:
        UserError: another process is writing `path`.
        DiskFullError: there is not enough space.
        OSError: the folder cannot be written to.
    """
    aside = _aside(path)
    made = [parent for parent in aside.parents if not parent.exists()]  # deepest first
    try:
        aside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): choose another folder"
        ) from error
    busy = UserError(f"{path} is being written by another process: wait until it has ended")
    with locked(aside / LOCK, busy):
        try:
            _take_back(path)
            for leftover in (NEW, OLD):
                shutil.rmtree(aside / leftover, ignore_errors=True)
            (aside / NEW).mkdir()
            yield aside / NEW
            _swap(path)
        except BaseException as error:
            named = isinstance(error, UserError) and str(aside) not in str(error)
            if is_disk_full(error) and not named:
                raise disk_full(path) from error
            raise
        finally:
            _take_back(path)
            shutil.rmtree(aside, ignore_errors=True)
            with suppress(OSError):  # those that are not empty stay
                for parent in made:
                    parent.rmdir()


def restore(path: Path) -> None:
    """Wait for a swap of `path` in progress, and undo one that was killed between two renames.

    Raises:
        UserError: another process is still writing `path`.
    """
    if not _is_between(path):
        return
    busy = UserError(f"{path} is being written by another process: try again when it has ended")
    with locked(_aside(path) / LOCK, busy, PATIENCE):
        _take_back(path)


def _swap(path: Path) -> None:
    aside, path = _aside(path), path.resolve()
    if path.exists():
        path.rename(aside / OLD)
    (aside / NEW).rename(path)


def _take_back(path: Path) -> None:
    if _is_between(path):
        (_aside(path) / OLD).rename(path.resolve())


def _is_between(path: Path) -> bool:
    """Whether a swap was interrupted between its two renames."""
    aside = _aside(path)
    return not path.exists() and (aside / OLD).exists() and (aside / NEW).exists()


def _aside(path: Path) -> Path:
    path = path.resolve()
    return path.with_name(f".{path.name}.writing")
