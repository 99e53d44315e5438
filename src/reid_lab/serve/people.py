"""The people that a service knows: one SQLite file, with the embeddings of each exit in memory.

Added images are on disk when `add` returns; removed people are overwritten there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from reid_lab.errors import UserError
from reid_lab.gallery_format.rows import number_of
from reid_lab.openset.thresholds import accept_thresholds_at
from reid_lab.protocol import DISTRACTOR
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.manifest import Manifest
from reid_lab.serve.accept_thresholds import AppliedThreshold, PeopleAcceptThresholds
from reid_lab.serve.people_file import PeopleFile
from reid_lab.serve.rows import Comparison, Rows, compared_rows, extended, without


def names_person(pid: str) -> bool:
    """Whether a name is of a person: not empty, -1 (junk) or 0 (a distractor)."""
    return pid != "" and number_of(pid) > DISTRACTOR


class ReplacedError(Exception):
    """Embeddings of a replaced network cannot be added."""


@dataclass(frozen=True)
class NewImage:
    """An image to add: its camera, file name and thumbnail (JPEG), which may be empty."""

    camid: str = ""
    path: str = ""
    thumbnail: bytes = b""


@dataclass(frozen=True)
class Match:
    """An image of a person near a query."""

    image: Annotated[int, Field(description="its number, for GET /images/{image}")]
    pid: Annotated[str, Field(description="whose image it is")]
    camid: Annotated[str, Field(description="its camera; empty if unknown")]
    file: Annotated[str, Field(description="its file's name, if it is from a gallery")]
    distance: Annotated[float, Field(description="from the query; nearest first")]


@dataclass
class People:
    """The images of people, by exit. Thread-safe.

    Attributes:
        exits: exits whose embeddings are kept, cheapest first.
        queries: exits at which queries are embedded: the same, or more if all are compared with the
            embeddings of one exit (`Manifest.shared_exit`).
        thresholds: thresholds for false-accept rates.
        rows: embeddings of the known images.
        successor: the same people with embeddings of a new network, once these have replaced
            them in the file.
    """

    _file: PeopleFile = field(repr=False)
    exits: tuple[str, ...]
    queries: tuple[str, ...]
    thresholds: PeopleAcceptThresholds
    rows: Rows = field(repr=False)
    successor: People | None = field(default=None, repr=False)

    @staticmethod
    def open(
        path: Path, manifest: Manifest, metric: str = "euclidean", exits: Sequence[str] = ()
    ) -> People:
        """Open the people in `path`, or start an empty file.

        Args:
            manifest: manifest of the exported network.
            metric: metric of a new file.
            exits: exits of a new file; empty: all exits that the network's stream may use.

        Raises:
            UserError: not a file of people, or people of another network.
        """
        file = PeopleFile(path, manifest, metric, tuple(exits) or manifest.gallery_exits)
        try:
            file.check(manifest)
            return People.of(file, manifest, file.exits, file.rows(file.exits))
        except BaseException:
            file.close()
            raise

    @staticmethod
    def of(file: PeopleFile, manifest: Manifest, exits: Sequence[str], rows: Rows) -> People:
        """The people of a file, by their embeddings `rows` of a network's exits."""
        shared = manifest.shared_exit is not None
        queries = tuple(e.name for e in manifest.exits if e.stream) if shared else tuple(exits)
        found = {
            e: accept_thresholds_at(manifest.accept_thresholds, e, file.metric)
            for e in manifest.names
        }
        thresholds = PeopleAcceptThresholds(exits, file.metric, found)
        return People(file, tuple(exits), queries, thresholds, rows)

    def close(self) -> None:
        self._file.close()

    @property
    def path(self) -> Path:
        """Path of the SQLite file."""
        return self._file.path

    @property
    def file(self) -> PeopleFile:
        """The file that stores the people."""
        return self._file

    @property
    def metric(self) -> str:
        """Euclidean or cosine."""
        return self._file.metric

    def __len__(self) -> int:
        return len(self.rows)

    def add(
        self, pid: str, images: Sequence[NewImage], embeddings: Mapping[str, np.ndarray]
    ) -> list[int]:
        """Add images of a person; they are on disk when this returns.

        Args:
            embeddings: exit -> (n, D), for every exit in `exits`.

        Returns:
            The images' ids.

        Raises:
            UserError: embeddings that cannot be compared.
            ReplacedError: a new network is used now; embed them with it.
        """
        with self._file.lock:  # of two spellings at once, one is the first
            return self._add([self.spelling(pid)] * len(images), images, embeddings)

    def _add(
        self, pids: Sequence[str], images: Sequence[NewImage], embeddings: Mapping[str, np.ndarray]
    ) -> list[int]:
        rows = {name: self._comparable(name, embeddings[name]) for name in self.exits}
        now = time.time()
        with self._file.lock:
            if self.successor is not None:
                raise ReplacedError
            with self._file.transaction():
                ids = [
                    self._file.insert(
                        "INSERT INTO image (pid, camid, path, added, thumbnail) "
                        "VALUES (?, ?, ?, ?, ?)",
                        pid,
                        image.camid,
                        image.path,
                        now,
                        image.thumbnail,
                    )
                    for pid, image in zip(pids, images, strict=True)
                ]
                self._file.insert_all(
                    "INSERT INTO embedding (image, exit, row) VALUES (?, ?, ?)",
                    (
                        (image, name, row.astype("<f4").tobytes())
                        for name, of_exit in rows.items()
                        for image, row in zip(ids, of_exit, strict=True)
                    ),
                )
            camids = [image.camid for image in images]
            self.rows = extended(self.rows, ids, pids, camids, rows)
        return ids

    def add_gallery(
        self,
        galleries: Mapping[str, Gallery],
        thumbnail: Callable[[str], bytes] = lambda path: b"",
    ) -> int:
        """Add the rows of saved galleries with the same images, one per exit of `exits`.

        Images are left out if their path is known or was removed, or if they name nobody (pid -1,
        0, or none).

        Args:
            thumbnail: path of an image -> JPEG, or empty.

        Returns:
            The number of images that were added.

        """
        first = galleries[self.exits[-1]]
        self.take_thresholds(galleries)
        paths = first.paths()
        there = {path for (path,) in self._file.select("SELECT path FROM image")}
        removed = {digest for (digest,) in self._file.select("SELECT path FROM removed")}
        known = {number_of(pid): pid for pid in self.rows.pids}
        names = [known.get(pid) or first.name(pid) for pid in first.pids.tolist()]
        new = [
            i
            for i, path in enumerate(paths)
            if first.pids[i] > DISTRACTOR and path not in there and _digest(path) not in removed
        ]
        pids = [names[i] for i in new]
        images = [
            NewImage(first.name(first.camids[i], "camid"), paths[i], thumbnail(paths[i]))
            for i in new
        ]
        rows = {name: np.asarray(galleries[name].embeddings)[new] for name in self.exits}
        self._add(pids, images, {name: row.astype(np.float32) for name, row in rows.items()})
        return len(new)

    def take_thresholds(self, galleries: Mapping[str, Gallery]) -> None:
        """Use the thresholds of galleries, by exit."""
        for name, gallery in galleries.items():
            source = "/".join(gallery.folder.parts[-2:])  # not where it lies on this machine
            self.thresholds.take(name, gallery.card.accept_thresholds, source)

    def remove(self, pid: str) -> int:
        """Remove a person: images, embeddings and labels are overwritten on disk.

        Digests of the paths are kept, so that `add_gallery` does not add the images again.

        Returns:
            The number of images that were removed.
        """
        with self._file.lock:
            if self.successor is not None:
                return self.successor.remove(pid)
            pid = self.spelling(pid)
            with self._file.transaction():
                of_person = self._file.select("SELECT path FROM image WHERE pid = ?", pid)
                self._file.insert_all(
                    "INSERT OR IGNORE INTO removed (path) VALUES (?)",
                    ((_digest(path),) for (path,) in of_person if path),
                )
                removed = self._file.change("DELETE FROM image WHERE pid = ?", pid).rowcount
                self._file.change("DELETE FROM label WHERE pid = ?", pid)
            if removed:
                self.rows = without(self.rows, pid)
                self.thresholds.forget()
            self._file.empty_log()
        return int(removed)

    def compare(self, exit: str, query: np.ndarray, exclude: str | None = None) -> Comparison:
        """Compare a query (D,) with all images; see `compare_each`."""
        return self.compare_each([exit], [query], exclude)[0]

    def compare_each(
        self, exits: Sequence[str], queries: Sequence[np.ndarray], exclude: str | None = None
    ) -> list[Comparison]:
        """Compare queries (D,) with all images at their exits.

        Args:
            exclude: camera whose images are left out.

        Raises:
            UserError: an embedding that cannot be compared.
        """
        kept, rows = [self._kept(exit) for exit in exits], self.rows
        found: dict[int, Comparison] = {}
        for exit in dict.fromkeys(kept):
            indices = [i for i, other in enumerate(kept) if other == exit]
            its = self._comparable(exit, np.stack([queries[i] for i in indices]))
            squared = np.empty((len(its), 0))
            if len(rows):
                squared = rows.distances(exit, its, [exclude] * len(its))
            for i, query, row in zip(indices, its, squared, strict=True):
                found[i] = Comparison(rows, exit, query, row)
        return [found[i] for i in range(len(kept))]

    def search(self, compared: Comparison, k: int) -> list[Match]:
        """The k nearest images, nearest first; ties are broken by image id."""
        ids, squared = compared.nearest(k) if len(compared.rows) else (np.empty(0), np.empty(0))
        distances = squared / 2 if self.metric == "cosine" else np.sqrt(squared)
        return self._matches(ids, distances)

    def within(self, compared: Comparison, threshold: AppliedThreshold) -> int:
        """The number of people with an image nearer than the threshold."""
        far = threshold.distance
        return compared.people_within(2 * far if self.metric == "cosine" else far**2)

    def margins(
        self, exit: str, queries: np.ndarray, exclude: Sequence[str | None] = ()
    ) -> np.ndarray:
        """(Q,) distance margin to the nearest image of another person. DaRe, section 5.3.2.

        It is 0 for a query with fewer than two people to compare.

        Args:
            exclude: a camera for each query, whose images are left out; None: none.
        """
        exit, rows = self._kept(exit), self.rows
        if len(rows.pids) < 2:
            return np.zeros(len(queries))
        squared = rows.distances(exit, self._comparable(exit, queries), exclude)
        best = squared.argmin(1)
        first = np.take_along_axis(squared, best[:, None], 1)[:, 0]
        same = rows.people[None] == rows.people[best][:, None]
        other = np.where(same, np.inf, squared).min(1)
        two = np.isfinite(other)
        margins = np.zeros(len(queries))
        margins[two] = np.sqrt(other[two]) - np.sqrt(first[two])
        return margins

    def nearest(
        self, exit: str, queries: np.ndarray, exclude: Sequence[str | None] = ()
    ) -> np.ndarray:
        """(Q,) Euclidean distances of the nearest images; infinite without images.

        Args:
            exclude: a camera for each query, whose images are left out; None: none.
        """
        exit, rows = self._kept(exit), self.rows
        if not len(rows):
            return np.full(len(queries), np.inf)
        squared = rows.distances(exit, self._comparable(exit, queries), exclude)
        nearest: np.ndarray = np.sqrt(squared.min(1)).astype(np.float64)
        return nearest

    def threshold(self, exit: str, rate: float, pairs: bool = False) -> AppliedThreshold | None:
        """The distance for a false-accept rate; see `PeopleAcceptThresholds.at`."""
        return self.thresholds.at(self.rows, exit, rate, pairs)

    def thumbnail(self, image: int) -> bytes | None:
        """JPEG; None for an unknown image or one without a thumbnail."""
        found = self._file.select("SELECT thumbnail FROM image WHERE id = ?", image)
        return bytes(found[0][0]) if found and found[0][0] else None

    def listed(self, start: str = "", limit: int = 100) -> list[tuple[str, int, int]]:
        """(pid, number of images, id of the first image) of the people after `start`, by pid."""
        return self._file.select(
            "SELECT pid, COUNT(*), MIN(id) FROM image WHERE pid > ? GROUP BY pid ORDER BY pid "
            "LIMIT ?",
            start,
            limit,
        )

    def count(self) -> tuple[int, int]:
        """The number of people and of images."""
        rows = self.rows
        return len(rows.pids), len(rows)

    def knows(self, pid: str) -> bool:
        return self.spelling(pid) in self.rows.pids

    def spelling(self, pid: str) -> str:
        """The name of a person as it was enrolled: numbers are equal, so that 10 may be 0010."""
        pids = self.rows.pids
        if pid in pids or not pid.isdecimal():
            return pid
        number = number_of(pid)
        same = (known for known in pids if known.isdecimal() and number_of(known) == number)
        return next(same, pid)

    def distance(self, exit: str, query: np.ndarray, pid: str) -> float | None:
        """Distance of a query (D,) from the nearest image of a person; None if not known."""
        exit, rows, pid = self._kept(exit), self.rows, self.spelling(pid)
        if pid not in rows.pids:
            return None
        mine = rows.exits[exit][rows.people == rows.pids.index(pid)].astype(np.float64)
        squared = np.square(mine - self._comparable(exit, query[None]).astype(np.float64)).sum(1)
        nearest = float(squared.min())
        return nearest / 2 if self.metric == "cosine" else nearest**0.5

    def label(self, pid: str, correct: bool, exit: str, distance: float, image: bytes) -> int:
        """Store a user's judgement of a match; it is on disk when this returns."""
        with self._file.lock, self._file.transaction():
            return self._file.insert(
                "INSERT INTO label (pid, correct, exit, distance, added, image) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                self.spelling(pid),
                correct,
                exit,
                distance,
                time.time(),
                image,
            )

    def labels(self) -> list[tuple[int, str, bool, str, float, float]]:
        """(id, pid, correct, exit, distance, time) of all labels."""
        found = self._file.select(
            "SELECT id, pid, correct, exit, distance, added FROM label ORDER BY id"
        )
        return [(i, pid, bool(right), *rest) for i, pid, right, *rest in found]

    def _matches(self, ids: np.ndarray, distances: np.ndarray) -> list[Match]:
        marks = ", ".join("?" * len(ids))
        found = {
            row[0]: row
            for row in self._file.select(
                f"SELECT id, pid, camid, path FROM image WHERE id IN ({marks})", *ids.tolist()
            )
        }
        pairs = zip(ids.tolist(), distances.tolist(), strict=True)
        # one that was removed since is left out
        there = [(found[image], distance) for image, distance in pairs if image in found]
        return [
            Match(image, pid, cam, Path(path).name, far) for (image, pid, cam, path), far in there
        ]

    def _kept(self, exit: str) -> str:
        """The exit whose stored embeddings are compared with queries of `exit`."""
        return exit if exit in self.exits else self.exits[-1]

    def _comparable(self, exit: str, rows: np.ndarray) -> np.ndarray:
        """(n, D) float32, of length 1 under cosine.

        Raises:
            UserError: rows that are not finite, zero, or of another dimension.
        """
        known = self.rows.exits[exit]
        if len(known) and rows.shape[1] != known.shape[1]:
            raise UserError(
                f"embeddings of {rows.shape[1]} dimensions; exit {exit} has {known.shape[1]}"
            )
        return compared_rows(exit, rows, self.metric)


def _digest(path: str) -> bytes:
    return blake2b(path.encode("utf-8", "surrogatepass"), digest_size=16).digest()
