"""Disk cache of decoded images: keyed by content, built by one process, resumable."""

from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock

from reid_lab.dataset.images import CHUNK, Decoder, Progress
from reid_lab.dataset.records import DatasetError, Split
from reid_lab.files.atomic import is_disk_full, write_text
from reid_lab.files.regular import escaped

# part of the key: change it whenever the pixels change
FORMAT = "3: uint8 (N, 3, H, W), upright, on white, bilinear, antialiased"
BLOCK = 256  # images that are decoded between two writes


class MappedImages:
    """Memory-mapped images: all processes share the file's pages. Pickled as the path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pixels = np.asarray(np.load(path, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        result: np.ndarray = self.pixels[index]
        return result

    def __reduce__(self) -> tuple[type[MappedImages], tuple[Path]]:
        return MappedImages, (self.path,)


def open_cached(decoder: Decoder, folder: Path, progress: Progress | None = None) -> MappedImages:
    """Open the decoder's images in the cache `folder`; build the cache file first if needed.

    One process builds it while others wait. An interrupted build resumes after its last block.

    Raises:
        DatasetError: an image cannot be read, or the disk is too small.
    """
    path = folder / f"{content_key(decoder.split, decoder.height, decoder.width)}.npy"
    if not _is_complete(path, decoder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not _is_complete(path, decoder):
                _build(path, decoder, progress)
    return MappedImages(path)


def _is_complete(path: Path, decoder: Decoder) -> bool:
    """Check that a file holds all images of the decoder; a truncated one does not."""
    try:
        pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    result: bool = pixels.shape == decoder.shape and pixels.dtype == np.uint8
    return result


def content_key(split: Split, height: int, width: int) -> str:
    """Hash the files' bytes in the split's order, the boxes and the image size.

    Names and times are not included, so the cache of a folder that was moved is found again.
    """
    digest = hashlib.blake2b(f"{FORMAT} {height}x{width}".encode(), digest_size=16)

    def digests(start: int) -> bytes:
        chunk = range(start, min(start + CHUNK, len(split)))
        return b"".join(_digest(split.path(index)) for index in chunk)

    with ThreadPoolExecutor(8) as pool:  # reading and hashing release the GIL
        for part in pool.map(digests, range(0, len(split), CHUNK)):
            digest.update(part)
    if split.boxes is not None:
        digest.update(np.ascontiguousarray(split.boxes, np.int64).tobytes())
    return digest.hexdigest()


def _digest(path: Path) -> bytes:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError as error:
        raise DatasetError(f"{escaped(path)} cannot be read ({error.strerror})") from error


def _build(path: Path, decoder: Decoder, progress: Progress | None) -> None:
    part, done = path.with_suffix(".part"), path.with_suffix(".done")
    start = int(done.read_text()) if _is_complete(part, decoder) and done.exists() else 0
    if not start:
        _create(part, done, decoder)
    offset = part.stat().st_size - int(np.prod(decoder.shape))
    try:
        with part.open("r+b") as file:  # not mapped: writing to a map on a full disk raises SIGBUS
            for first in range(start, len(decoder), BLOCK):
                block = np.empty((min(BLOCK, len(decoder) - first), *decoder.shape[1:]), np.uint8)
                decoder.fill(block, first, progress)
                file.seek(offset + first * block[0].nbytes)
                file.write(block.data)
                file.flush()
                os.fsync(file.fileno())  # before it is counted as done
                write_text(done, str(first + len(block)))
    except OSError as error:
        if is_disk_full(error):
            raise _no_space(part.parent, int(np.prod(decoder.shape))) from error
        raise
    part.replace(path)
    done.unlink()


def _create(part: Path, done: Path, decoder: Decoder) -> None:
    """Create an empty file of the full size, and remove the progress of an older one.

    Raises:
        DatasetError: the disk is too small.
    """
    needed, free = int(np.prod(decoder.shape)), shutil.disk_usage(part.parent).free
    if needed > free:
        raise _no_space(part.parent, needed)
    done.unlink(missing_ok=True)
    np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=decoder.shape)


def _no_space(folder: Path, needed: int) -> DatasetError:
    return DatasetError(
        f"{folder} has {shutil.disk_usage(folder).free / 1e9:.1f} GB free, the decoded images "
        f"take {needed / 1e9:.1f} GB: free space there, or set dataset.cache_dir elsewhere or "
        "dataset.cache=none"
    )
