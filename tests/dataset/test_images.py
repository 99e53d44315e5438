from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from reid_lab.dataset import DatasetError, Split
from reid_lab.dataset.images import check_files, decode, open_images, resize
from reid_lab.images.pixels import read_size
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


@pytest.mark.parametrize("boxes", [None, [2, 3, 18, 35]])
def test_caches_hold_what_the_decoder_gives(
    split: Split, tmp_path: Path, boxes: list[int] | None
) -> None:
    if boxes is not None:
        split = replace(split, boxes=np.array([boxes] * len(split), np.int32))
    plain = open_images(split, 32, 16)
    memory = open_images(split, 32, 16, "memory")
    disk = open_images(split, 32, 16, "disk", tmp_path / "cache")
    left, top, right, bottom = boxes or (0, 0, 20, 40)
    for i in range(len(split)):
        wanted = resize(decode(split.path(i))[top:bottom, left:right], 32, 16)
        for images in (plain, memory, disk):
            assert np.array_equal(images[i], wanted.transpose(2, 0, 1))


def test_broken_files_are_named(split: Split) -> None:
    check_files(split)
    split.path(1).write_bytes(b"<html>404</html>")
    split.path(2).write_bytes(b"")
    split.path(3).unlink()
    with pytest.raises(DatasetError, match=r"(?s)3 of 4 files.*0002_c1.*0003_c1.*0004_c1"):
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


@pytest.mark.parametrize("size", [(128, 64), (217, 93), (61, 40), (300, 500)])
def test_resizing_is_torchvisions_and_near_pillows(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # older torchvision resizes uint8 by way of float unless the CPU reports exactly this
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 3), np.uint8)
    image = np.array(Image.fromarray(noise).resize(size[::-1], Image.Resampling.BICUBIC))
    resized = resize(image, 288, 144)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert np.array_equal(resized, v2.functional.resize(tensor, [288, 144]).permute(1, 2, 0))
    pillows = np.asarray(Image.fromarray(image).resize((144, 288), Image.Resampling.BILINEAR))
    off = np.abs(resized.astype(int) - pillows)
    assert off.max() <= 2
    assert (off > 1).mean() < 1e-3


def test_an_image_of_the_size_is_not_touched() -> None:
    image = np.zeros((32, 16, 3), np.uint8)
    assert resize(image, 32, 16) is image


def test_a_photo_is_shown_as_it_was_held(tmp_path: Path) -> None:
    pixels = np.kron(np.arange(0, 256, 32, np.uint8).reshape(2, 4), np.ones((8, 8), np.uint8))
    image, exif = Image.fromarray(pixels).convert("RGB"), Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    for name in ("held.jpg", "held.png"):
        image.save(tmp_path / name, exif=exif)
        shift_hue_batch = decode(tmp_path / name)
        assert shift_hue_batch.shape == (32, 16, 3) and read_size(tmp_path / name) == (32, 16)
        assert np.abs(shift_hue_batch - np.rot90(np.asarray(image), -1).astype(int)).max() < 20
    exif[0x0112] = 9  # invalid
    image.save(tmp_path / "odd.jpg", exif=exif)
    assert decode(tmp_path / "odd.jpg").shape[:2] == read_size(tmp_path / "odd.jpg") == (16, 32)
    image.save(tmp_path / "broken.jpg", exif=b"Exif\0\0nonsense")
    assert decode(tmp_path / "broken.jpg").shape == (16, 32, 3)


def test_sixteen_bits_keep_their_greys(tmp_path: Path) -> None:
    grey = np.arange(0, 65536, 256, np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "infrared.png")
    wanted = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode(tmp_path / "infrared.png"), np.stack([wanted] * 3, 2))


def test_long_metadata_is_no_fault(split: Split) -> None:
    jpeg = split.path(1).read_bytes()
    for path in (split.path(0), split.path(1)):  # two segments: the header begins after 64 KiB
        path.write_bytes(jpeg[:2] + (b"\xff\xe5\xff\xff" + bytes(65533)) * 2 + jpeg[2:])
    check_files(split)
    assert decode(split.path(0)).shape == (40, 20, 3)


def test_boxes_outside_of_their_images_are_named(split: Split) -> None:
    boxes = np.array([[2, 3, 30, 50], [20, 0, 30, 40], [0, 0, 20, 40], [0, 40, 20, 50]], np.int32)
    with pytest.raises(DatasetError, match=r"(?s)2 of 4.*0002_c1.*20 0 30 40.*outside.*0004_c1"):
        check_files(replace(split, boxes=boxes))


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"Andr\xe9_c1.jpg")
    write_jpegs(tmp_path, [name])
    split = Split.of(tmp_path, [(name, 1, 1, 0)])
    check_files(split)
    assert decode(split.path(0)).ndim == 3
