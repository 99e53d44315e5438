"""The records of a data set as compact arrays, which readers return."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from reid_lab.errors import UserError
from reid_lab.images.boxes import Box
from reid_lab.protocol import DISTRACTOR, MARKET1501, Protocol


class DatasetError(UserError):
    """A data set cannot be used: the message says what was found, what is expected, and the fix."""


@dataclass(frozen=True)
class Split:
    """N images of a data set.

    Arrays instead of one object per image: forked workers share them without copying.

    Attributes:
        root: folder that `names` are relative to.
        names: (N,) bytes, paths of the files.
        pids, camids, tracks: (N,) int64.
        boxes: (N, 4) int32, the person's box in each file: left, top, right, bottom in pixels,
            clipped to the image; None where each file shows one person.
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
        """Return the person's box in the file, or None for the whole image."""
        if self.boxes is None:
            return None
        left, top, right, bottom = self.boxes[index].tolist()
        return left, top, right, bottom

    def take(self, indices: np.ndarray) -> Split:
        """Return the images at `indices` (integers or a boolean mask), in that order."""
        return replace(self, **{name: x[indices] for name, x in self._columns().items()})

    @property
    def identities(self) -> np.ndarray:
        """Sorted pids of the people, without junk and distractors."""
        pids = np.unique(self.pids)
        return pids[pids > DISTRACTOR]

    def counts(self) -> dict[str, int]:
        """Return the number of images, pids and cameras."""
        return {
            "images": len(self),
            "pids": len(self.identities),
            "cameras": len(np.unique(self.camids)),
        }

    @staticmethod
    def of(root: Path, rows: Sequence[tuple[str, int, int, int]]) -> Split:
        """Build a split from rows of (name relative to root, pid, camid, track)."""
        names = np.array([os.fsencode(name) for name, *_ in rows], dtype=np.bytes_)
        numbers = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 3)
        return Split(root, names, numbers[:, 0], numbers[:, 1], numbers[:, 2])

    @staticmethod
    def concatenate(*splits: Split) -> Split:
        """Concatenate splits of one root, either all or none with boxes.

        Raises:
            ValueError: the roots differ.
        """
        roots = {split.root for split in splits}
        if len(roots) != 1:
            raise ValueError(
                f"cannot concatenate splits of several roots: {', '.join(map(str, roots))}"
            )
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
    """A data set with its splits and evaluation protocol.

    Attributes:
        notes: remarks for the user, each one line: an `Info`, or a warning.
        protocol: how queries are evaluated.
        multi_query: more images of the queries' people in the queries' cameras; pooled with them in
            multi-query evaluation, never ranked.
        people, cameras: pid or camid -> its name in the data, if that is not a number.
    """

    name: str
    train: Split
    query: Split
    gallery: Split
    notes: tuple[str, ...] = ()
    protocol: Protocol = MARKET1501
    multi_query: Split | None = None
    people: Mapping[int, str] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)

    def person_name(self, pid: int) -> str:
        """Return the person's name in the data, or the pid."""
        return self.people.get(int(pid), str(pid))

    def camera_name(self, camid: int) -> str:
        """Return the camera's name in the data, or the camid."""
        return self.cameras.get(int(camid), str(camid))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts of train, query and gallery, with tracklets if they are ranked."""
        parts = {"train": self.train, "query": self.query, "gallery": self.gallery}
        counts = {name: split.counts() for name, split in parts.items()}
        if self.protocol.tracklets:
            for name, split in parts.items():
                counts[name]["tracklets"] = len(np.unique(split.tracks))
        return counts
