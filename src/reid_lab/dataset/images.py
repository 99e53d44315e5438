"""Decode images fast, resize them once, and keep them decoded if asked to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch.nn.functional import interpolate

from reid_lab.dataset.device import DeviceImages
from reid_lab.dataset.records import Box, DatasetError, Split
from reid_lab.files.image_files import escaped
from reid_lab.files.pixels import ImageError, read_pixels, read_size

Cache = Literal["none", "memory", "disk", "device"]
CHUNK = 64
Progress = Callable[[int, int], None]


class Images(Protocol):
    """Anything that gives image `index` as (3, H, W) uint8 RGB: a decoder or an array."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def decode(path: Path, box: Box | None = None) -> np.ndarray:
    """The image in a file, or what `box` cuts out of it, (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: the file cannot be used as an image, or the box is outside of it.
    """
    try:
        pixels = read_pixels(path)
    except ImageError as error:
        raise DatasetError(str(error)) from error
    if problem := box_problem(path, box, *pixels.shape[:2]):
        raise DatasetError(problem)
    return crop(pixels, box)


def crop(pixels: np.ndarray, box: Box | None) -> np.ndarray:
    """What of the box is inside of (H, W, 3); all of it without one."""
    if box is None:
        return pixels
    left, top, right, bottom = box
    return pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]


def box_problem(path: Path, box: Box | None, height: int, width: int) -> str | None:
    """What is wrong with a box that lies wholly outside of its image."""
    if box is None:
        return None
    left, top, right, bottom = box
    if min(right, width) > max(left, 0) and min(bottom, height) > max(top, 0):
        return None
    return (
        f"{escaped(path)}: the box {left} {top} {right} {bottom} (left top right bottom) is "
        f"outside of the image, {width} x {height} pixels. Correct or remove it"
    )


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
    `reid_lab.dataset.cache`; `device` where batches are asked for, see `reid_lab.dataset.device`.
    """
    decoder = Decoder(split, height, width)
    if cache == "none":
        return decoder
    if cache in ("memory", "device"):
        pixels = np.empty(decoder.shape, np.uint8)
        decoder.fill(pixels, progress=progress)
        return pixels if cache == "memory" else DeviceImages(pixels)
    if cache_dir is None:
        raise ValueError("cache='disk' needs a cache_dir")
    from reid_lab.dataset.cache import open_cached

    return open_cached(decoder, cache_dir, progress)


def check_files(split: Split) -> None:
    """Look at every file's header, so that a broken one is named before training.

    Raises:
        DatasetError: naming up to five files that cannot be used, or that a box lies outside of.
    """
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda indices: file_problems(split, indices), by_file(split))
        problems = {i: problem for some in found for i, problem in some.items()}
    if problems:
        listed = "".join(f"\n    {problems[i]}" for i in sorted(problems)[:5])
        raise DatasetError(
            f"{len(problems):,} of {len(split):,} files in {escaped(split.root)} cannot be used:"
            f"{listed}" + ("\n    ..." if len(problems) > 5 else "")
        )


def by_file(split: Split) -> list[list[int]]:
    """The indices of the images in each file: one, or as many as it has boxes."""
    files: dict[bytes, list[int]] = {}
    for index, name in enumerate(split.names.tolist()):
        files.setdefault(name, []).append(index)
    return list(files.values())


def file_problems(split: Split, indices: Sequence[int]) -> dict[int, str]:
    """What is wrong with the images `indices` of one file, as far as its header tells."""
    path = split.path(indices[0])
    try:
        size = read_size(path)
    except ImageError as error:
        return dict.fromkeys(indices, str(error))
    found = {index: box_problem(path, split.box(index), *size) for index in indices}
    return {index: problem for index, problem in found.items() if problem is not None}
