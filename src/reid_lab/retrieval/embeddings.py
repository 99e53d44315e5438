"""The embeddings of queries and gallery at every exit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_lab.dataset.records import Split
from reid_lab.errors import UserError
from reid_lab.output.arguments import check_type, described
from reid_lab.retrieval.checks import as_ids, as_rows, check_paths, check_rows


@dataclass(frozen=True)
class Ids:
    """Labels of N images: `pids` (N,), `camids` (N,) and `paths` (N,).

    Tensors, arrays or lists of integers, stored as int64 on the CPU. As queries, pids of 0
    (distractors) and -1 (junk) have no match. `tracks` (N,): images of a person in a camera with
    the same number are a tracklet. `boxes` (N, 4): the part of each file that is the image; None:
    the whole file.

    Raises:
        UserError: ids that are not whole numbers, or fields of different lengths.
    """

    pids: Tensor
    camids: Tensor
    paths: np.ndarray
    tracks: Tensor | None = None
    boxes: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("pids", "camids", "tracks"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, as_ids(name, values))
        if not isinstance(self.paths, np.ndarray):
            if isinstance(self.paths, (str, PathLike)) or not isinstance(self.paths, Iterable):
                raise UserError(
                    f"paths is {described(self.paths)}: give a list of paths, one per image"
                )
            object.__setattr__(self, "paths", np.array([*self.paths], dtype=object))
        if self.paths.ndim != 1:
            raise UserError(f"paths has the shape {self.paths.shape}: give one path per image")
        if self.boxes is not None:
            boxes = np.asarray(self.boxes)
            if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4):
                raise UserError(f"boxes has the shape {boxes.shape}: give (N, 4), one per image")
            object.__setattr__(self, "boxes", boxes)
        columns = ("pids", "camids", "paths", "tracks", "boxes")
        given = {name: getattr(self, name) for name in columns}
        counts = {name: len(values) for name, values in given.items() if values is not None}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise UserError(
                f"an image has one of each, but there are {listed}: give as many of each"
            )

    @staticmethod
    def of(split: Split) -> Ids:
        """The labels of a split's images, in its order."""
        paths = np.array([str(split.path(i)) for i in range(len(split))], dtype=object)
        pids, camids, tracks = map(torch.from_numpy, (split.pids, split.camids, split.tracks))
        return Ids(pids, camids, paths, tracks, split.boxes)

    @staticmethod
    def concatenate(one: Ids, other: Ids) -> Ids:
        """The images of both, which both or neither have `tracks`, and likewise `boxes`."""
        pids, camids = torch.cat([one.pids, other.pids]), torch.cat([one.camids, other.camids])
        tracks = boxes = None
        if one.tracks is not None and other.tracks is not None:
            tracks = torch.cat([one.tracks, other.tracks])
        if one.boxes is not None and other.boxes is not None:
            boxes = np.concatenate([one.boxes, other.boxes])
        return Ids(pids, camids, np.concatenate([one.paths, other.paths]), tracks, boxes)

    def __len__(self) -> int:
        return len(self.pids)

    @cached_property
    def images(self) -> Tensor:
        """(N,) int64, equal for equal path and box; valid in this process only."""
        boxes = [()] * len(self) if self.boxes is None else map(tuple, self.boxes.tolist())
        keys = (hash((path, box)) for path, box in zip(self.paths.tolist(), boxes, strict=True))
        return torch.from_numpy(np.fromiter(keys, np.int64, len(self)))

    def take(self, rows: Tensor) -> Ids:
        """The images at `rows` (ints), in that order."""
        tracks = None if self.tracks is None else self.tracks[rows]
        boxes = None if self.boxes is None else self.boxes[rows.numpy()]
        return Ids(self.pids[rows], self.camids[rows], self.paths[rows.numpy()], tracks, boxes)

    def part(self, rows: slice) -> Ids:
        """The images at `rows`."""
        return self.take(torch.arange(len(self))[rows])

    def to_dict(self, row: int) -> dict[str, Any]:
        """Path, pid, camid and box (if any) of a single image, as plain types."""
        box = {} if self.boxes is None else {"box": self.boxes[row].tolist()}
        pid, camid = int(self.pids[row]), int(self.camids[row])
        return {"path": str(self.paths[row]), "pid": pid, "camid": camid, **box}


@dataclass(frozen=True)
class Exit:
    """One exit: `query` (Q, D) and `gallery` (G, D) float32, cumulative Mul-Adds per image.

    A `reference` is a baseline for the exits, such as a colour histogram; no query exits at it.
    `multi_query` (C, D) are given if `Embeddings.multi_query` is. Arrays become tensors; other
    dtypes are kept and ranked in float32. `signs` (D,), 1 or -1: the exit ranks by the sum of signs
    times squared differences, whatever the metric.
    """

    query: Tensor
    gallery: Tensor
    mul_adds: int
    reference: bool = False
    multi_query: Tensor | None = None
    signs: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("query", "gallery", "multi_query"):
            rows = getattr(self, name)
            if rows is not None:
                object.__setattr__(self, name, as_rows(name, rows))


@dataclass(frozen=True)
class Embeddings:
    """The exits by name, cheapest first, over the same `query` and `gallery` images.

    `multi_query` are additional images of the queries' people in the queries' cameras, for
    multi-queries; they are not ranked.

    Raises:
        UserError: unequal numbers of rows and images, rows that cannot be ranked, or an image that
            is listed twice; the row is named.
    """

    query: Ids
    gallery: Ids
    exits: Mapping[str, Exit]
    multi_query: Ids | None = None

    def __post_init__(self) -> None:
        how = "Ids(pids, camids, paths)"
        check_type("query", self.query, Ids, how)
        check_type("gallery", self.gallery, Ids, how)
        if self.multi_query is not None:
            check_type("multi_query", self.multi_query, Ids, how)
        check_type("exits", self.exits, Mapping, "a dict of names and Exit(...)")
        for name, e in self.exits.items():
            check_type(f"exits[{name!r}]", e, Exit, "Exit(query, gallery, mul_adds)")
            if (len(e.query), len(e.gallery)) != (len(self.query), len(self.gallery)):
                raise UserError(
                    f"exit {name!r} has {len(e.query)} query and {len(e.gallery)} gallery "
                    f"embeddings for {len(self.query)} query and {len(self.gallery)} gallery "
                    "images: give one for each image"
                )
            check_rows(f"exit {name!r}: query", e.query, self.query.paths)
            check_rows(f"exit {name!r}: gallery", e.gallery, self.gallery.paths)
            if self.multi_query is not None:
                if e.multi_query is None or len(e.multi_query) != len(self.multi_query):
                    given = 0 if e.multi_query is None else len(e.multi_query)
                    raise UserError(
                        f"exit {name!r} needs {len(self.multi_query)} multi-query images, an "
                        f"embedding for each image; it has {given}"
                    )
                check_rows(
                    f"exit {name!r}: multi-query images", e.multi_query, self.multi_query.paths
                )
        check_paths("query", self.query.paths, self.query.boxes)
        check_paths("gallery", self.gallery.paths, self.gallery.boxes)
