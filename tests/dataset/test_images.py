from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_lab.dataset import DatasetError, Split
from reid_lab.dataset.images import check_files, decode, open_images, resize
from tests.conftest import write_jpegs


@pytest.fixture
def split(tmp_path: Path) -> Split:
    names = [f"000{n}_c1_1.jpg" for n in range(1, 5)]
    write_jpegs(tmp_path / "images", names, size=(40, 20))
    return Split.of(tmp_path / "images", [(name, 1, 1, 0) for name in names])


def test_decoding_equals_pillows(split: Split, tmp_path: Path) -> None:
    with Image.open(split.path(0)) as image:
        assert np.array_equal(decode(split.path(0)), np.asarray(image))
        for suffix in (".png", ".bmp"):
            image.save(tmp_path / f"x{suffix}")
            assert np.array_equal(decode(tmp_path / f"x{suffix}"), np.asarray(image))


def test_caches_hold_what_the_decoder_gives(split: Split, tmp_path: Path) -> None:
    plain = open_images(split, 32, 16)
    memory = open_images(split, 32, 16, "memory")
    disk = open_images(split, 32, 16, "disk", tmp_path / "cache")
    for i in range(len(split)):
        assert plain[i].shape == (32, 16, 3)
        assert np.array_equal(plain[i], memory[i])
        assert np.array_equal(plain[i], disk[i])


def test_disk_cache_is_found_again_and_notices_changes(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    open_images(split, 32, 16, "disk", folder)
    (first,) = folder.iterdir()
    stamp = first.stat().st_mtime_ns
    open_images(split, 32, 16, "disk", folder)
    assert [p.stat().st_mtime_ns for p in folder.iterdir()] == [stamp]
    Image.new("RGB", (20, 40), "red").save(split.path(0))
    changed = open_images(split, 32, 16, "disk", folder)
    assert len(list(folder.iterdir())) == 2
    assert changed[0][16, 8, 0] > 200


def test_an_interrupted_cache_is_not_used(split: Split, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_images(split, 32, 16, "disk", tmp_path / "cache", progress=stop)
    assert not list((tmp_path / "cache").iterdir())


def test_broken_files_are_named(split: Split) -> None:
    check_files(split)
    split.path(1).write_bytes(b"<html>404</html>")
    split.path(2).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"(?s)2 of 4 files.*0002_c1_1\.jpg.*0003_c1_1\.jpg"):
        check_files(split)
    with pytest.raises(DatasetError, match=r"0002_c1_1\.jpg cannot be read"):
        open_images(split, 32, 16, "memory")


def test_a_truncated_jpeg_is_named(split: Split) -> None:
    whole = split.path(0).read_bytes()
    split.path(0).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DatasetError, match=r"0001_c1_1\.jpg cannot be read"):
        decode(split.path(0))


def test_resize_filters_when_it_shrinks() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255
    assert abs(int(resize(stripes, 8, 8).mean()) - 127) < 8
