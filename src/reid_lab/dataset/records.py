"""Records as compact arrays: what a reader returns and everything after it consumes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_lab.errors import UserError
from reid_lab.protocol import MARKET1501, Protocol

JUNK = -1  # pid of a bad detector box: it neither helps nor hurts a ranking
DISTRACTOR = 0  # pid of people who match no query
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


class DatasetError(UserError):
    """What is wrong with a data set on disk, what was expected, and how to fix it."""


@dataclass(frozen=True)
class Split:
    """N images: `names` (N,) bytes relative to `root`; `pids`, `camids`, `tracks` (N,) int64.

    `boxes` (N, 4) int32 cuts the person out of each file: left, top, right, bottom in pixels. What
    of a box is outside of its image is left out.
    Arrays, not objects: forked workers share them without copying.
    """

    root: Path
    names: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    tracks: np.ndarray
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.root / os.fsdecode(self.names[index])

    def box(self, index: int) -> Box | None:
        """What cuts the person out of the file; None where the file is one person's."""
        if self.boxes is None:
            return None
        left, top, right, bottom = self.boxes[index].tolist()
        return left, top, right, bottom

    def take(self, indices: np.ndarray) -> Split:
        """The images at `indices` (ints or a boolean mask), in that order."""
        return replace(self, **{name: x[indices] for name, x in self._columns().items()})

    @property
    def identities(self) -> np.ndarray:
        """The people in it, sorted: pids without junk and distractors."""
        pids = np.unique(self.pids)
        return pids[pids > DISTRACTOR]

    def counts(self) -> dict[str, int]:
        return {
            "images": len(self),
            "pids": len(self.identities),
            "cameras": len(np.unique(self.camids)),
        }

    @staticmethod
    def of(root: Path, rows: Sequence[tuple[str, int, int, int]]) -> Split:
        """From rows of (name relative to root, pid, camid, track)."""
        names = np.array([os.fsencode(name) for name, *_ in rows], dtype=np.bytes_)
        numbers = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 3)
        return Split(root, names, numbers[:, 0], numbers[:, 1], numbers[:, 2])

    @staticmethod
    def concatenate(*splits: Split) -> Split:
        """All images, in that order; the splits share a root, and all have boxes or none has."""
        roots = {split.root for split in splits}
        if len(roots) != 1:
            raise ValueError(f"splits of several roots: {', '.join(map(str, roots))}")
        columns = [split._columns() for split in splits]
        joined: dict[str, Any] = {
            name: np.concatenate([c[name] for c in columns]) for name in columns[0]
        }
        return replace(splits[0], **joined)

    def _columns(self) -> dict[str, Any]:
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: x for name, x in every.items() if isinstance(x, np.ndarray)}


@dataclass(frozen=True)
class Benchmark:
    """A data set as its protocol divides it: `train`, `query` and `gallery`, plus remarks.

    `protocol` says how the gallery is shown and what counts. `companions` are more images of
    the queries' people in the queries' cameras: pooled with them in multi-queries, never ranked.
    `people` and `cameras` are the names that the data gives to pids and camids, if not numbers.
    """

    name: str
    train: Split
    query: Split
    gallery: Split
    notes: tuple[str, ...] = ()
    protocol: Protocol = MARKET1501
    companions: Split | None = None
    people: Mapping[int, str] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)

    def person_name(self, pid: int) -> str:
        """As the data calls the person."""
        return self.people.get(int(pid), str(pid))

    def camera_name(self, camid: int) -> str:
        """As the data calls the camera."""
        return self.cameras.get(int(camid), str(camid))

    def counts(self) -> dict[str, dict[str, int]]:
        parts = {"train": self.train, "query": self.query, "gallery": self.gallery}
        found = {name: split.counts() for name, split in parts.items()}
        if self.protocol.tracklets:
            for name, split in parts.items():
                found[name]["tracklets"] = len(np.unique(split.tracks))
        return found
