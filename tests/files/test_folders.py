"""A folder is replaced as a whole, or stays as it was."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reid_lab.errors import UserError
from reid_lab.files.atomic import DiskFullError, disk_full
from reid_lab.files.folders import locked, replacing_folder, restore


def write(path: Path, text: str) -> None:
    with replacing_folder(path) as folder:
        (folder / "a.txt").write_text(text, encoding="utf-8")


def is_only(path: Path, text: str) -> bool:
    """Whether `path` holds `text` and nothing lies beside it."""
    return (path / "a.txt").read_text(encoding="utf-8") == text and [*path.parent.iterdir()] == [
        path
    ]


def test_a_failure_leaves_no_new_parents(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "there/new/deep/out"):
        raise KeyboardInterrupt
    assert not [*(tmp_path / "there").iterdir()]
    write(tmp_path / "there/new/out", "first")
    assert is_only(tmp_path / "there/new/out", "first")


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_a_failure_leaves_what_was(error: type[BaseException], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("first", "second"):
        write(out, text)
    with pytest.raises(error), replacing_folder(out) as folder:
        (folder / "a.txt").write_text("third", encoding="utf-8")
        raise error("stopped")
    assert is_only(out, "second")


def test_a_full_disk_is_a_user_error_that_names_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "out", "first")
    told = pytest.raises(DiskFullError, match="out .*previous out is unchanged")
    with told, replacing_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    told = pytest.raises(DiskFullError, match=r"write \S*out .*previous out is unchanged")
    with told, replacing_folder(tmp_path / "out") as folder:
        raise disk_full(folder / "inside.json") from OSError(errno.ENOSPC, "full")
    told = pytest.raises(DiskFullError, match="elsewhere.json")
    with told, replacing_folder(tmp_path / "out"):
        raise disk_full(tmp_path / "elsewhere.json") from OSError(errno.ENOSPC, "full")
    assert is_only(tmp_path / "out", "first")


def test_stopped_between_two_names_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = tmp_path / "out", Path.rename
    write(out, "first")

    def stopped(path: Path, target: Path) -> Path:
        if target == out and path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        write(out, "second")
    assert is_only(out, "first")


KILLED = """
import os, signal
from pathlib import Path
from reid_lab.files.folders import replacing_folder
rename = Path.rename
def killed(path, target):
    if WHEN == path.name:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(path, target)
    return target
Path.rename = killed
with replacing_folder(Path("out")) as folder:
    (folder / "a.txt").write_text("second")
    if WHEN == "write":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["write", "out", "new"])
def test_what_a_killed_process_left_is_cleared(when: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, "first")
    code = KILLED.replace("WHEN", repr(when))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert out.exists() == (when != "new") and len([*tmp_path.iterdir()]) == 1 + (when != "new")
    restore(out)  # as a reader does
    assert (out / "a.txt").read_text(encoding="utf-8") == "first"
    write(out, "second")
    assert is_only(out, "second")


def test_two_writers_are_refused(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("first", encoding="utf-8")
        with pytest.raises(UserError, match="out is being written by another process"):
            write(tmp_path / "out", "second")
    assert is_only(tmp_path / "out", "first")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])
def test_a_lock_that_cannot_be_written_is_not_held_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*args: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refused)
    with (
        pytest.raises(UserError, match=rf"x\.lock cannot be written \({os.strerror(number)}"),
        locked(tmp_path / "x.lock", UserError("busy")),
    ):
        pass


def test_an_old_one_is_not_taken_for_one_that_was_removed(tmp_path: Path) -> None:
    (tmp_path / ".out.writing" / "old").mkdir(parents=True)  # killed when all was done
    restore(tmp_path / "out")
    assert not (tmp_path / "out").exists()
