"""Records as compact arrays: what a reader returns and everything after it consumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError
from reid_lab.protocol import MARKET1501, Protocol

JUNK = -1  # pid of a bad detector box: it neither helps nor hurts a ranking
DISTRACTOR = 0  # pid of people who match no query


class DatasetError(UserError):
    """What is wrong with a data set on disk, what was expected, and how to fix it."""


@dataclass(frozen=True)
class Split:
    """N images: `names` (N,) bytes relative to `root`; `pids`, `camids`, `tracks` (N,) int64.

    Arrays, not objects: forked workers share them without copying.
    """

    root: Path
    names: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    tracks: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.root / self.names[index].decode()

    def take(self, indices: np.ndarray) -> Split:
        """The images at `indices` (ints or a boolean mask), in that order."""
        return Split(
            self.root,
            self.names[indices],
            self.pids[indices],
            self.camids[indices],
            self.tracks[indices],
        )

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
    def of(root: Path, rows: list[tuple[str, int, int, int]]) -> Split:
        """From rows of (name relative to root, pid, camid, track)."""
        names = np.array([name.encode() for name, *_ in rows], dtype=np.bytes_)
        numbers = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 3)
        return Split(root, names, numbers[:, 0], numbers[:, 1], numbers[:, 2])

    @staticmethod
    def concatenate(first: Split, second: Split) -> Split:
        """Both splits' images, `first` before `second`; they share a root."""
        if first.root != second.root:
            raise ValueError(f"splits of two roots: {first.root} and {second.root}")
        return Split(
            first.root,
            *(
                np.concatenate([getattr(first, field), getattr(second, field)])
                for field in ("names", "pids", "camids", "tracks")
            ),
        )


@dataclass(frozen=True)
class Benchmark:
    """A data set as its protocol divides it: `train`, `query` and `gallery`, plus remarks.

    `protocol` says how the gallery is shown and what counts.
    """

    name: str
    train: Split
    query: Split
    gallery: Split
    notes: tuple[str, ...] = ()
    protocol: Protocol = MARKET1501

    def counts(self) -> dict[str, dict[str, int]]:
        return {name: getattr(self, name).counts() for name in ("train", "query", "gallery")}


def hold_out(train: Split, identities: int, seed: int) -> tuple[Split, Split, Split]:
    """Keep `identities` people of `train` apart for validation: (train, query, gallery).

    The first image of a person in a camera is a query, the others are gallery.

    Raises:
        DatasetError: fewer than `identities` people are seen by two cameras, or none is left.
    """
    by_pid = {pid: np.unique(train.camids[train.pids == pid]) for pid in train.identities}
    able = np.array([pid for pid, cameras in by_pid.items() if len(cameras) > 1])
    if identities > len(able) or identities >= len(by_pid):
        raise DatasetError(
            f"dataset.val_identities={identities}, but {len(able)} of the {len(by_pid)} training "
            "identities are seen by two cameras and one must stay for training: ask for fewer"
        )
    held = np.random.default_rng(seed).choice(able, identities, replace=False)
    apart = np.isin(train.pids, held)
    val = train.take(apart)
    _, first = np.unique(np.stack([val.pids, val.camids]), axis=1, return_index=True)
    is_query = np.zeros(len(val), dtype=bool)
    is_query[first] = True
    return train.take(~apart), val.take(is_query), val.take(~is_query)


def check_rankable(name: str, query: Split, gallery: Split) -> None:
    """Whether any query can be answered under the protocol.

    Raises:
        DatasetError: one camera only, or no query with a match in another camera.
    """
    cameras = np.union1d(query.camids, gallery.camids)
    if len(cameras) < 2:
        raise DatasetError(
            f"{name}: all query and gallery images are from camera {cameras.tolist()}. A match "
            "must come from another camera, so two are needed: check the camera numbers in the "
            "file names (PPPP_cC...)"
        )
    seen: dict[int, set[int]] = {}
    for pid, camid in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        seen.setdefault(pid, set()).add(camid)
    queries = zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    if not any(seen.get(pid, set()) - {camid} for pid, camid in queries):
        raise DatasetError(
            f"{name}: no query has a gallery image of the same person from another camera, so "
            "nothing can be ranked: check pids and cameras in the file names (PPPP_cC...)"
        )
