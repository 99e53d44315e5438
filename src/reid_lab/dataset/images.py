"""Decode images fast, resize them once, and keep them decoded if asked to."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch.nn.functional import interpolate

from reid_lab.dataset.records import Box, DatasetError, Split
from reid_lab.pixels import UNREADABLE, read_pixels, read_size

Cache = Literal["none", "memory", "disk"]
CHUNK = 64
Progress = Callable[[int, int], None]


class Images(Protocol):
    """Anything that gives image `index` as (3, H, W) uint8 RGB: a decoder or an array."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def decode(path: Path, box: Box | None = None) -> np.ndarray:
    """The image in a file, or what `box` cuts out of it, (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: the file is missing, broken, or no image; it is named.
    """
    try:
        pixels = read_pixels(path)
    except UNREADABLE as error:
        raise DatasetError(
            f"{path} cannot be read as an image ({error}): replace or remove it"
        ) from error
    if box is None:
        return pixels
    left, top, right, bottom = box
    return pixels[top:bottom, left:right]


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, 3) uint8 -> (height, width, 3) uint8, bilinear with antialiasing.

    What torchvision does to a uint8 tensor: vectorised, within two grey levels of Pillow.
    """
    if image.shape[:2] == (height, width):
        return image
    # channels last without a copy, which is the layout that the kernel is fastest for
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


class Decoder:
    """Images of a split, decoded and resized when asked for."""

    def __init__(self, split: Split, height: int, width: int) -> None:
        self.split, self.height, self.width = split, height, width

    def __len__(self) -> int:
        return len(self.split)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.height, self.width

    def __getitem__(self, index: int) -> np.ndarray:
        image = decode(self.split.path(index), self.split.box(index))
        return resize(image, self.height, self.width).transpose(2, 0, 1)

    def fill(self, pixels: np.ndarray, start: int = 0, progress: Progress | None = None) -> None:
        """Images `start` and after into `pixels` (n, 3, height, width), on all cores."""

        def put(offset: int) -> int:
            last = min(offset + CHUNK, len(pixels))
            for place in range(offset, last):
                pixels[place] = self[start + place]
            return last

        # decoding and resizing release the GIL, so threads share the work
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for last in pool.map(put, range(0, len(pixels), CHUNK)):
                if progress is not None:
                    progress(start + last, len(self))


def open_images(
    split: Split,
    height: int,
    width: int,
    cache: Cache = "none",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Images:
    """Images of `split` at (height, width): decoded on demand, or kept as uint8.

    `memory` keeps them in this process (shared with forked workers); `disk` in `cache_dir`, see
    `reid_lab.dataset.cache`.
    """
    decoder = Decoder(split, height, width)
    if cache == "none":
        return decoder
    if cache == "memory":
        pixels = np.empty(decoder.shape, np.uint8)
        decoder.fill(pixels, progress=progress)
        return pixels
    if cache_dir is None:
        raise ValueError("cache='disk' needs a cache_dir")
    from reid_lab.dataset.cache import on_disk

    return on_disk(decoder, cache_dir, progress)


def check_files(split: Split) -> None:
    """Look at every file's header, so that a broken one is named before training.

    Raises:
        DatasetError: naming up to five files that are no images, or that a box lies outside of.
    """
    with ThreadPoolExecutor(8) as pool:
        told = list(filter(None, pool.map(lambda index: _wrong(split, index), range(len(split)))))
    if told:
        shown = "".join(f"\n    {line}" for line in told[:5])
        raise DatasetError(
            f"{len(told)} of {len(split)} files in {split.root} are missing or no images, or lack "
            f"the box: replace or remove them{shown}" + ("\n    ..." if len(told) > 5 else "")
        )


def _wrong(split: Split, index: int) -> str | None:
    path, box = split.path(index), split.box(index)
    try:
        height, width = read_size(path)
    except UNREADABLE:
        return str(path)
    if box is not None and (box[0] >= width or box[1] >= height):
        return f"{path}: the box {' '.join(map(str, box))} is outside of {width} x {height} pixels"
    return None
