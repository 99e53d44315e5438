"""Decode every image of a split once, on all cores, and collect statistics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from reid_lab.dataset.images import decode, file_problems, group_by_file
from reid_lab.dataset.records import DatasetError, Split
from reid_lab.doctor.hashes import THUMBNAIL, thumbnail
from reid_lab.images.boxes import crop

CHUNK = 32  # files a task


@dataclass(frozen=True)
class ImageStats:
    """Statistics of N images. For broken ones `good` is False and the rest is zero.

    Args:
        good: (N,) whether they could be decoded.
        sizes: (N, 2) width and height in pixels, of the box if there is one.
        thumbnails: (N, 32, 36) uint8, grey.
        digests: (N,) uint64; equal for equal pixels only.
        contrast: (N,) float32, the standard deviation of the thumbnail in grey levels.
        clipped: (N,) whether the box leaves the image.
        broken: a message for each image that is not `good`.
    """

    good: np.ndarray
    sizes: np.ndarray
    thumbnails: np.ndarray
    digests: np.ndarray
    contrast: np.ndarray
    clipped: np.ndarray
    broken: list[str] = field(default_factory=list)

    @staticmethod
    def blank(n: int) -> ImageStats:
        good, clipped = np.zeros(n, bool), np.zeros(n, bool)
        sizes, thumbnails = np.zeros((n, 2), np.int32), np.zeros((n, *THUMBNAIL), np.uint8)
        digests, contrast = np.zeros(n, np.uint64), np.zeros(n, np.float32)
        return ImageStats(good, sizes, thumbnails, digests, contrast, clipped)


def scan(split: Split, advance: Callable[[int], None] = lambda images: None) -> ImageStats:
    """Scan every image; a file with several boxes is decoded once.

    `advance` is called with the number of newly finished images.
    """
    stats = ImageStats.blank(len(split))
    files = group_by_file(split)
    tasks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]

    def work(task: list[list[int]]) -> tuple[int, list[str]]:
        broken = [message for indices in task for message in _fill(stats, split, indices)]
        return sum(map(len, task)), broken

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the GIL
        for done, broken in pool.map(work, tasks):
            stats.broken.extend(broken)
            advance(done)
    return stats


def _fill(stats: ImageStats, split: Split, indices: list[int]) -> list[str]:
    """Scan the images of one file; return a message for each broken one."""
    # the checks before training, then decoding
    problems = file_problems(split, indices)
    broken, good = list(problems.values()), [i for i in indices if i not in problems]
    if not good:
        return broken
    try:
        whole = decode(split.path(good[0]))
    except DatasetError as error:
        return broken + [str(error)] * len(good)
    high, wide = whole.shape[:2]
    for i in good:
        if (box := split.box(i)) is not None:
            left, top, right, bottom = box
            stats.clipped[i] = left < 0 or top < 0 or right > wide or bottom > high
        _note(stats, i, crop(whole, box))
    return broken


def _note(stats: ImageStats, i: int, image: np.ndarray) -> None:
    stats.good[i] = True
    stats.sizes[i] = image.shape[1], image.shape[0]
    stats.thumbnails[i] = thumbnail(image)
    stats.contrast[i] = stats.thumbnails[i].std()
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(image).data)
    stats.digests[i] = int.from_bytes(digest.digest(), "little")
