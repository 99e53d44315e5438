"""Decode, crop and resize the images of a split; optionally keep them decoded in a cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch.nn.functional import interpolate

from reid_lab.dataset.device import DeviceImages, SharedImages
from reid_lab.dataset.records import DatasetError, Split
from reid_lab.errors import first
from reid_lab.files.regular import escaped
from reid_lab.images.boxes import Box, box_problem, crop
from reid_lab.images.pixels import ImageError, read_pixels, read_size
from reid_lab.output.console import progress

Cache = Literal["none", "memory", "disk", "device"]
CHUNK = 64  # images decoded by a thread at a time
Progress = Callable[[int, int], None]  # called with (images done, images in all)


class Images(Protocol):
    """Anything whose item `index` is an image (3, H, W) uint8 RGB: a decoder or an array."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def decode(path: Path, box: Box | None = None) -> np.ndarray:
    """Decode an image file, and crop it to `box` if given: (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: the file cannot be read as an image, or the box is outside of the image.
    """
    try:
        pixels = read_pixels(path)
    except ImageError as error:
        raise DatasetError(str(error)) from error
    if problem := box_problem(path, box, *pixels.shape[:2]):
        raise DatasetError(problem)
    return crop(pixels, box)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (h, w, 3) uint8 -> (height, width, 3) uint8, bilinear with antialiasing.

    Equal to torchvision's resize of a uint8 tensor where that does not go by way of float, and
    within two grey levels of Pillow's.
    """
    if image.shape[:2] == (height, width):
        return image
    # channels last without a copy: the fastest layout for this kernel
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


class Decoder:
    """Images of a split, decoded and resized on access."""

    def __init__(self, split: Split, height: int, width: int) -> None:
        self.split, self.height, self.width = split, height, width

    def __len__(self) -> int:
        return len(self.split)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), 3, self.height, self.width

    def __getitem__(self, index: int) -> np.ndarray:
        image = decode(self.split.path(index), self.split.box(index))
        result: np.ndarray = resize(image, self.height, self.width).transpose(2, 0, 1)
        return result

    def all(self, progress: Progress | None = None) -> np.ndarray:
        """Decode all images: (N, 3, height, width)."""
        pixels = np.empty(self.shape, np.uint8)
        self.fill(pixels, progress=progress)
        return pixels

    def fill(self, pixels: np.ndarray, start: int = 0, progress: Progress | None = None) -> None:
        """Decode images from `start` on into `pixels` (n, 3, height, width), on all cores."""

        def put(offset: int) -> int:
            last = min(offset + CHUNK, len(pixels))
            for i in range(offset, last):
                pixels[i] = self[start + i]
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
    share: Sequence[int] | None = None,
) -> Images:
    """Open the images of `split` at (height, width), decoded on access or kept as uint8.

    Args:
        cache: `none`; `memory`, this process (shared with forked workers); `disk`, a file in
            `cache_dir` (`reid_lab.dataset.cache`); `device` (`reid_lab.dataset.device`).
        progress: called while a cache is filled.
        share: with cache=device, the only images to keep.

    Raises:
        DatasetError: an image cannot be read, or the disk is too small.
    """
    decoder = Decoder(split, height, width)
    if cache == "none":
        return decoder
    if cache == "memory":
        return decoder.all(progress)
    if cache == "device" and share is not None:
        part = Decoder(split.take(np.array(share)), height, width)
        return SharedImages(part.all(progress), share, decoder)
    if cache == "device":
        return DeviceImages(decoder.all(progress))
    if cache_dir is None:
        raise ValueError("cache='disk' needs a cache_dir")
    from reid_lab.dataset.cache import open_cached

    return open_cached(decoder, cache_dir, progress)


def open_with_progress(open_part: Callable[..., Images], part: str) -> Images:
    """Call `open_part(progress=...)`, with a bar while images are decoded."""
    with progress() as bar:
        # hidden until something is decoded
        task = bar.add_task(f"decode {part} images", visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return open_part(progress=show)


def check_files(split: Split) -> None:
    """Check the header of every file, so that broken ones are reported before training.

    Raises:
        DatasetError: names up to five files that cannot be read, or whose boxes are outside.
    """
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda indices: file_problems(split, indices), group_by_file(split))
        problems = {i: problem for result in results for i, problem in result.items()}
    if problems:
        listed = "".join(f"\n    {line}" for line in first([problems[i] for i in sorted(problems)]))
        raise DatasetError(
            f"{len(problems):,} of {len(split):,} files in {escaped(split.root)} cannot be used:"
            f"{listed}"
        )


def group_by_file(split: Split) -> list[list[int]]:
    """Return the image indices of each file: one, or one per box."""
    files: dict[bytes, list[int]] = {}
    for index, name in enumerate(split.names.tolist()):
        files.setdefault(name, []).append(index)
    return list(files.values())


def file_problems(split: Split, indices: Sequence[int]) -> dict[int, str]:
    """Return the errors of the images `indices`, all of one file, that its header shows."""
    path = split.path(indices[0])
    try:
        size = read_size(path)
    except ImageError as error:
        return dict.fromkeys(indices, str(error))
    problems = {index: box_problem(path, split.box(index), *size) for index in indices}
    return {index: problem for index, problem in problems.items() if problem is not None}
