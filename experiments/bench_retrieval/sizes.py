"""Sizes of queries and galleries. Imports no torch (see `__main__.py`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Numbers of images, people, cameras, gallery distractors (pid 0) and dimensions."""

    query: int
    gallery: int
    people: int
    cameras: int
    distractors: int
    dim: int = 512


SIZES = {
    "cuhk03": Size(1400, 5332, 700, 2, 0, 128),  # new protocol, detected boxes
    "market": Size(3368, 15913, 750, 6, 2798),
    "msmt17": Size(11659, 82161, 3060, 15, 0),
}


def growing(gallery: int, queries: int = 1000, dim: int = 512) -> Size:
    """A gallery of at most 750 people with 17 images each; the rest are distractors."""
    people = min(750, gallery // 20)
    return Size(queries, gallery, people, 6, gallery - 17 * people, dim)
