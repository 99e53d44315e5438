"""Files are replaced whole, or not at all."""

from __future__ import annotations

import errno
import os
import time

import pytest

from reid_lab.files.atomic import STALE_AFTER, DiskFullError, replacing, write_bytes, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_keeps_its_line_ends(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "ä\nb\r\n")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "ä\nb\r\n".encode()
    assert names(tmp_path / "deep") == ["a.txt"]


def test_a_file_name_that_is_not_utf8_is_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    write_text(tmp_path / "a.txt", f"ü {name}")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "ü caf\\udce9.jpg"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(KeyError), replacing(path) as beside:
        beside.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a.bin"]


def test_a_full_disk_is_a_user_error_that_names_the_file(tmp_path):
    path = tmp_path / "last.ckpt"
    write_bytes(path, b"old")
    with pytest.raises(DiskFullError, match=r"last\.ckpt .*MiB free.*unchanged"), replacing(path):
        raise RuntimeError("torch") from OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["last.ckpt"]


def test_the_temporary_file_is_beside_the_target(tmp_path):
    with replacing(tmp_path / "a") as beside:
        assert beside.parent == tmp_path
        beside.write_bytes(b"")


def test_what_a_killed_writer_left_is_removed_once_it_is_stale(tmp_path):
    old, live = tmp_path / ".a[1].7.part", tmp_path / ".a[1].8.part"
    for part in (old, live):
        part.write_bytes(b"x")
    hour_ago = time.time() - STALE_AFTER - 1
    os.utime(old, (hour_ago, hour_ago))
    write_bytes(tmp_path / "a[1]", b"new")
    assert not old.exists() and live.exists()


@pytest.mark.parametrize("old", [None, b"the one before"])
def test_a_file_is_flushed_then_renamed_then_its_folder_is_flushed(tmp_path, disk, old):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    write_bytes(path, b"content")
    inode, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert disk == [("file", inode, 7), ("rename", inode, 7), ("folder", folder, 0)]


def test_what_can_be_made_again_is_renamed_alone(tmp_path, disk):
    write_bytes(tmp_path / "a.bin", b"content", durable=False)
    assert disk == [("rename", (tmp_path / "a.bin").stat().st_ino, 7)]
