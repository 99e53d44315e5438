"""Decode images fast, resize them once, and keep them decoded if asked to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import simplejpeg
from PIL import Image

from reid_lab.dataset.records import DatasetError, Split

Cache = Literal["none", "memory", "disk"]
JPEG = b"\xff\xd8"
HEADER_BYTES = 1 << 16
Progress = Callable[[int, int], None]


class Images(Protocol):
    """Anything that gives image `index` as (H, W, 3) uint8 RGB: a decoder or an array."""

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def decode(path: Path) -> np.ndarray:
    """The image in a file, (H, W, 3) uint8 RGB.

    Raises:
        DatasetError: the file is missing, broken, or no image; it is named.
    """
    try:
        data = path.read_bytes()
        if data[:2] == JPEG:
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(
            f"{path} cannot be read as an image ({error}): replace or remove it"
        ) from error


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, 3) uint8 -> (height, width, 3) uint8, bilinear with antialiasing."""
    if image.shape[:2] == (height, width):
        return image
    # Pillow filters when it shrinks, as torchvision does with antialias=True
    shrunk = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(shrunk)


class Decoder:
    """Images of a split, decoded and resized when asked for."""

    def __init__(self, split: Split, height: int, width: int) -> None:
        self.split, self.height, self.width = split, height, width

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> np.ndarray:
        image = decode(self.split.path(index))
        if self.split.boxes is not None:
            left, top, right, bottom = self.split.boxes[index]
            image = image[top:bottom, left:right]
        return resize(image, self.height, self.width)


def open_images(
    split: Split,
    height: int,
    width: int,
    cache: Cache = "none",
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Images:
    """Images of `split` at (height, width): decoded on demand, or kept as uint8.

    `memory` keeps them in this process (shared with forked workers); `disk` keeps them in
    `cache_dir`, memory-mapped and found again by the files' names, sizes and times.
    """
    decoder = Decoder(split, height, width)
    if cache == "none":
        return decoder
    if cache == "memory":
        pixels = np.empty((len(split), height, width, 3), np.uint8)
        _fill(pixels, decoder, progress)
        return pixels
    if cache_dir is None:
        raise ValueError("cache='disk' needs a cache_dir")
    path = cache_dir / f"{_key(split, height, width)}.npy"
    if not path.exists():
        _build(path, decoder, progress)
    return np.load(path, mmap_mode="r")


def check_files(split: Split) -> None:
    """Look at every file's header, so that a broken one is named before training.

    Raises:
        DatasetError: naming up to five files that are no images.
    """
    with ThreadPoolExecutor(8) as pool:
        broken = [
            split.path(index)
            for index, good in enumerate(pool.map(_has_header, map(split.path, range(len(split)))))
            if not good
        ]
    if broken:
        shown = "".join(f"\n    {path}" for path in broken[:5])
        raise DatasetError(
            f"{len(broken)} of {len(split)} files in {split.root} are no images: replace or "
            f"remove them{shown}" + ("\n    ..." if len(broken) > 5 else "")
        )


def _has_header(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
        try:
            if head[:2] == JPEG:
                simplejpeg.decode_jpeg_header(head)
                return True
            Image.open(file).verify()
        except (OSError, ValueError, SyntaxError):
            return False
    return True


def _fill(pixels: np.ndarray, decoder: Decoder, progress: Progress | None) -> None:
    def put(index: int) -> None:
        pixels[index] = decoder[index]

    # decoding and resizing release the GIL, so threads share the work
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(put, range(len(decoder)), chunksize=64), 1):
            if progress is not None and (done % 64 == 0 or done == len(decoder)):
                progress(done, len(decoder))


def _key(split: Split, height: int, width: int) -> str:
    digest = hashlib.sha256(f"{split.root.resolve()} {height}x{width}".encode())
    for index in range(len(split)):
        stat = split.path(index).stat()
        digest.update(split.names[index])
        digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


def _build(path: Path, decoder: Decoder, progress: Progress | None) -> None:
    """Write beside, then rename: two builders or an interruption leave no half cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    shape = (len(decoder), decoder.height, decoder.width, 3)
    try:
        pixels = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape)
        _fill(pixels, decoder, progress)
        pixels.flush()
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
