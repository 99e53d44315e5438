from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.dataset import DatasetError, Split
from reid_lab.dataset import cache as module
from reid_lab.dataset.cache import MappedImages, content_key, open_cached
from reid_lab.dataset.images import Decoder
from tests.conftest import write_jpegs

NAMES = [f"000{n}_c1_1.jpg" for n in range(1, 9)]
FORK = get_context("fork")


@pytest.fixture
def decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decoder:
    """Eight images, built in four blocks."""
    monkeypatch.setattr(module, "BLOCK", 2)
    root = write_jpegs(tmp_path / "images", NAMES, size=(40, 20))
    return Decoder(Split.of(root, [(name, 1, 1, 0) for name in NAMES]), 32, 16)


def wanted(decoder: Decoder) -> np.ndarray:
    return np.stack([decoder[i] for i in range(len(decoder))])


def kept(folder: Path, suffix: str = ".npy") -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == suffix]


def in_processes(*works: Callable[[], Any]) -> list[int | None]:
    """Return the exit codes of processes that run at the same time."""

    def quietly(work: Callable[[], Any]) -> None:
        torch.set_num_threads(1)
        work()

    processes = [FORK.Process(target=quietly, args=(work,)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def test_a_moved_folder_finds_its_cache(decoder: Decoder, tmp_path: Path) -> None:
    first = open_cached(decoder, tmp_path / "cache")
    moved = shutil.copytree(decoder.split.root, tmp_path / "elsewhere")
    os.utime(moved / NAMES[0], (0, 0))
    again = open_cached(
        Decoder(replace(decoder.split, root=moved), 32, 16), tmp_path / "cache", fail
    )
    assert again.path == first.path
    assert np.array_equal(again.pixels, wanted(decoder))


def test_a_changed_byte_is_another_cache(decoder: Decoder, tmp_path: Path) -> None:
    """The key depends on the content, even if size and time are the same."""
    first = open_cached(decoder, tmp_path / "cache")
    path, before = decoder.split.path(0), decoder.split.path(0).stat()
    data = bytearray(path.read_bytes())
    table = data.index(b"\xff\xdb") + 5  # first luminance quantiser, of the mean
    data[table] *= 3
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = open_cached(decoder, tmp_path / "cache")
    assert second.path != first.path
    assert np.array_equal(second.pixels, wanted(decoder))
    assert not np.array_equal(second[0], first[0]) and np.array_equal(second[1], first[1])


def test_the_key_is_of_order_boxes_and_size(decoder: Decoder) -> None:
    split, boxes = decoder.split, np.tile(np.array([0, 0, 10, 20], np.int32), (8, 1))
    shifted = boxes + np.array([1, 0, 1, 0], np.int32)
    keys = [
        content_key(split, 32, 16),
        content_key(split, 16, 32),
        content_key(split.take(np.arange(8)[::-1]), 32, 16),
        content_key(replace(split, boxes=boxes), 32, 16),
        content_key(replace(split, boxes=shifted), 32, 16),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key(replace(split, boxes=boxes.astype(np.int64)), 32, 16) == keys[3]


def test_an_interrupted_build_goes_on(decoder: Decoder, tmp_path: Path) -> None:
    folder = tmp_path / "cache"

    def killed() -> None:
        def stop(done: int, total: int) -> None:
            if done == 6:  # decoded, but not yet counted as done
                os.kill(os.getpid(), signal.SIGKILL)

        open_cached(decoder, folder, stop)

    assert in_processes(killed) == [-signal.SIGKILL]
    assert not kept(folder)
    assert kept(folder, ".done")[0].read_text() == "4"
    seen: list[int] = []
    images = open_cached(decoder, folder, lambda done, total: seen.append(done))
    assert seen == [6, 8]  # the first two blocks were done
    assert np.array_equal(images.pixels, wanted(decoder))
    assert not kept(folder, ".part") and not kept(folder, ".done")


def test_a_file_that_was_cut_off_is_built_again(decoder: Decoder, tmp_path: Path) -> None:
    """Complete or partial."""
    path = open_cached(decoder, tmp_path / "cache").path
    for file in (path, path.with_suffix(".part")):
        file.write_bytes(wanted(decoder).tobytes()[:100])
        path.with_suffix(".done").write_text("4")
        assert np.array_equal(open_cached(decoder, tmp_path / "cache").pixels, wanted(decoder))
        path.unlink()


def test_a_disk_that_fills_up_is_said(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("reid_lab.dataset.cache.os.fsync", full)
    with pytest.raises(DatasetError, match=r"GB free.*dataset\.cache_dir"):
        open_cached(decoder, tmp_path / "cache")


def test_an_old_note_is_not_believed(decoder: Decoder, tmp_path: Path) -> None:
    """The progress of a build is ignored if its file is missing."""
    key = content_key(decoder.split, 32, 16)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / f"{key}.done").write_text("6")
    assert np.array_equal(open_cached(decoder, tmp_path / "cache").pixels, wanted(decoder))


def test_of_two_processes_one_builds(decoder: Decoder, tmp_path: Path) -> None:
    decoded = FORK.Value("i", 0)
    start = FORK.Barrier(2)

    class Counting(Decoder):
        def __getitem__(self, index: int) -> np.ndarray:
            with decoded.get_lock():
                decoded.value += 1
            return super().__getitem__(index)

    def build() -> None:
        start.wait(30)
        images = open_cached(Counting(decoder.split, 32, 16), tmp_path / "cache")
        assert np.array_equal(images.pixels, wanted(decoder))

    assert in_processes(build, build) == [0, 0]
    assert decoded.value == len(decoder)


def test_a_pickled_cache_is_its_path(decoder: Decoder, tmp_path: Path) -> None:
    images = open_cached(decoder, tmp_path / "cache")
    pickled = pickle.dumps(images)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert isinstance(again, MappedImages) and len(again) == 8
    assert np.array_equal(again[3], decoder[3])
    assert not again[3].flags.writeable


def test_too_small_a_disk_is_said_before(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("reid_lab.dataset.cache.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DatasetError, match=r"0\.0 GB free.*dataset\.cache_dir"):
        open_cached(decoder, tmp_path / "cache")


def test_a_missing_file_is_named(decoder: Decoder, tmp_path: Path) -> None:
    decoder.split.path(2).unlink()
    with pytest.raises(DatasetError, match=r"0003_c1_1\.jpg cannot be read"):
        open_cached(decoder, tmp_path / "cache")


def fail(done: int, total: int) -> None:
    raise AssertionError("built again")
