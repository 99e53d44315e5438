"""How large the galleries are. Nothing heavy is imported here: see `__main__.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How many images and people; `distractors` of the gallery are nobody's (pid 0)."""

    query: int
    gallery: int
    people: int
    cameras: int
    distractors: int
    dim: int = 512


SIZES = {
    "market": Size(3368, 15913, 750, 6, 2798),
    "msmt17": Size(11659, 82161, 3060, 15, 0),
}


def growing(gallery: int, queries: int = 1000, dim: int = 512) -> Size:
    """A gallery that grows by strangers: at most 750 people with 17 images each."""
    people = min(750, gallery // 20)
    return Size(queries, gallery, people, 6, gallery - 17 * people, dim)
