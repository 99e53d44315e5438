"""Findings from the images: broken, unusual and duplicate ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reid_lab.dataset.records import Benchmark, Split
from reid_lab.doctor.findings import Finding, Level, named
from reid_lab.doctor.hashes import difference_hash, within
from reid_lab.doctor.scan import ImageStats
from reid_lab.protocol import JUNK, Hidden

# what separates re-encoded, scaled and slightly cropped copies from 10^8 pairs of other images
BITS = 10  # bits, of 64, in which hashes of near-duplicates differ at most
GREY_LEVELS = 10.0  # largest mean absolute difference of their thumbnails, of 255
UNIFORM = 4.0  # grey levels: the standard deviation of an image without content
SMALLEST = 32  # pixels of the higher side
FACTOR = 4  # a height this many times the median, or one part in as many, is odd
CHUNK = 4096  # pairs of thumbnails that are compared at a time
Parts = Mapping[str, tuple[Split, ImageStats]]


@dataclass(frozen=True)
class Pairs:
    """Images i of one split and j of another that look the same; `exact` if pixels are equal."""

    i: np.ndarray
    j: np.ndarray
    exact: np.ndarray

    def take(self, mask: np.ndarray) -> Pairs:
        return Pairs(self.i[mask], self.j[mask], self.exact[mask])


def check_images(benchmark: Benchmark, stats: Mapping[str, ImageStats]) -> list[Finding]:
    """All checks of this file; `stats` has train, query, gallery, and multi_query if given."""
    splits = {"train": benchmark.train, "query": benchmark.query, "gallery": benchmark.gallery}
    parts = {name: (split, stats[name]) for name, split in splits.items()}
    hidden, twice = benchmark.protocol.hidden, list[Finding]()
    if hidden == "itself":
        del parts["query"]  # its images are in the gallery, too
    else:
        twice = shown_twice(*parts["query"], *parts["gallery"], hidden)
    return [
        *broken(list(stats.values())),
        *sizes(parts),
        *clipped(parts),
        *uniform(parts),
        *conflicts(parts, benchmark.person_name),
        *twice,
        *leaks(parts),
        *copies(parts),
    ]


def broken(stats: Sequence[ImageStats]) -> list[Finding]:
    messages = [message for part in stats for message in part.broken]
    if not messages:
        return []
    listed = named(messages, "\n")
    what = f"broken images: {len(messages):,}\n{listed}"
    return [Finding("error", what, "training stops at the first of them")]


def sizes(parts: Parts) -> list[Finding]:
    """Images that are very small, wider than high, or of another size than most."""
    widths, heights = _all(parts, "sizes").T
    names, good = _names(parts), _all(parts, "good")
    if not good.any():
        return []
    median = np.median(heights[good])
    tiny = good & (np.maximum(widths, heights) < SMALLEST)
    wide = good & (widths > heights)
    odd = good & ~tiny & ((heights * FACTOR < median) | (heights > FACTOR * median))
    drop, cut = "leave them out", "a person is higher: cut people out, or check boxes and sizes"
    than_most = f"{FACTOR} times higher or lower than most ({median:.0f} pixels)"
    return [
        *_some("warning", tiny, names, f"smaller than {SMALLEST} pixels", drop),
        *_some("warning", wide, names, "wider than high", cut),
        *_some("note", odd, names, than_most, "all are resized to the same size"),
    ]


def clipped(parts: Parts) -> list[Finding]:
    """Boxes that are partly outside of their image."""
    mask = _all(parts, "clipped") & _all(parts, "good")
    fix = "what lies inside is taken: correct the boxes if they are for another resolution"
    return _some("warning", mask, _names(parts), "the box is partly outside of the image", fix)


def uniform(parts: Parts) -> list[Finding]:
    """Images of one colour."""
    mask = _all(parts, "good") & (_all(parts, "contrast") < UNIFORM)
    return _some("warning", mask, _names(parts), "one colour only", "leave them out")


def conflicts(parts: Parts, name: Callable[[int], str] = str) -> list[Finding]:
    """Images that are listed with two pids."""
    digests = _all(parts, "digests")
    pids = np.concatenate([split.pids for split, _ in parts.values()])
    shows = _all(parts, "good") & (_all(parts, "contrast") >= UNIFORM)
    names, rows = _names(parts), np.flatnonzero(shows & (pids != JUNK))
    first: dict[int, int] = {}
    pairs = [
        (first[key], row)
        for row, key in zip(rows.tolist(), digests[rows].tolist(), strict=True)
        if pids[first.setdefault(key, row)] != pids[row]
    ]
    if not pairs:
        return []
    said = [f"{os.fsdecode(names[i])} (pid {name(pids[i])})" for pair in pairs for i in pair]
    listed = named([", ".join(two) for two in zip(said[::2], said[1::2], strict=True)], "\n")
    what = f"{len(pairs):,} images are equal in every pixel, but of two people:\n{listed}"
    return [Finding("warning", what, "one of the two labels is wrong: correct or remove it")]


def shown_twice(
    query: Split, query_stats: ImageStats, gallery: Split, gallery_stats: ImageStats, hidden: Hidden
) -> list[Finding]:
    """Queries whose own image is in the gallery, of another camera or person.

    Hidden images are ignored, as is another frame of the same person in the same camera, which is
    naturally similar.
    """
    pairs = alike(query_stats, gallery_stats)
    person = query.pids[pairs.i] == gallery.pids[pairs.j]
    camera = query.camids[pairs.i] == gallery.camids[pairs.j]
    matters = ~person | ~camera if hidden != "same_camera" else ~camera
    if hidden == "nothing":  # another frame of the same person may be similar, but not equal
        matters |= pairs.exact
    pairs = pairs.take(matters & (gallery.pids[pairs.j] != JUNK))
    fix = "a query is matched with itself: remove one, or correct pid and camera"
    return _same("query and gallery", query, gallery, pairs, fix)


def leaks(parts: Parts) -> list[Finding]:
    """Test images that are also training images."""
    train, stats = parts["train"]
    found = []
    for name, (split, other) in parts.items():
        if name == "train":
            continue
        pairs = alike(stats, other)
        fix = "the test shows what was trained on: remove one of the two"
        found += _same(f"train and {name}", train, split, pairs, fix)
    return found


def copies(parts: Parts) -> list[Finding]:
    """Duplicates of an image with the same pid, within one part of the data set."""
    found = []
    for name, (split, stats) in parts.items():
        rows = _useful(stats)
        keys = np.stack([stats.digests[rows], split.pids[rows].astype(np.uint64)])
        _, kept = np.unique(keys, axis=1, return_index=True)
        again = np.setdiff1d(rows, rows[kept])
        if len(again):
            listed = named([os.fsdecode(split.names[i]) for i in again])
            what = f"{name}: {len(again):,} duplicate images: {listed}"
            found.append(Finding("note", what, "remove the copies; they weigh double"))
    return found


def alike(a: ImageStats, b: ImageStats) -> Pairs:
    """Near-duplicates by their hashes, confirmed by their thumbnails."""
    rows, columns = _useful(a), _useful(b)
    hashes = difference_hash(a.thumbnails[rows]), difference_hash(b.thumbnails[columns])
    i, j = within(*hashes, BITS)
    i, j = rows[i], columns[j]
    near = [
        np.abs(a.thumbnails[x].astype(np.int16) - b.thumbnails[y]).mean((1, 2)) <= GREY_LEVELS
        for x, y in zip(_chunks(i), _chunks(j), strict=True)
    ]
    keep = np.concatenate([np.zeros(0, bool), *near])
    i, j = i[keep], j[keep]
    return Pairs(i, j, a.digests[i] == b.digests[j])


def _same(where: str, a: Split, b: Split, pairs: Pairs, fix: str) -> list[Finding]:
    if not len(pairs.i):
        return []
    shown = list(zip(a.names[pairs.i].tolist(), b.names[pairs.j].tolist(), strict=True))
    listed = named([f"{os.fsdecode(one)}, {os.fsdecode(other)}" for one, other in shown], "\n")
    exact = int(pairs.exact.sum())
    what = (
        f"{where}: {len(shown):,} pairs of near-duplicates, {exact:,} of them equal in every pixel"
    )
    return [Finding("warning", f"{what}:\n{listed}", fix)]


def _some(level: Level, mask: np.ndarray, names: np.ndarray, what: str, fix: str) -> list[Finding]:
    count = int(mask.sum())
    if not count:
        return []
    shown = named(os.fsdecode(name) for name in names[mask].tolist())
    return [Finding(level, f"{what}: {count:,} of {len(mask):,} images, {shown}", fix)]


def _useful(stats: ImageStats) -> np.ndarray:
    """Indices of images that can be distinguished."""
    return np.flatnonzero(stats.good & (stats.contrast >= UNIFORM))


def _all(parts: Parts, column: str) -> np.ndarray:
    return np.concatenate([getattr(stats, column) for _, stats in parts.values()])


def _names(parts: Parts) -> np.ndarray:
    return np.concatenate([split.names for split, _ in parts.values()])


def _chunks(indices: np.ndarray) -> list[np.ndarray]:
    return np.split(indices, range(CHUNK, len(indices), CHUNK))
