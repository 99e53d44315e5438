"""The files of a saved gallery: reading and checks. Without torch.

card.py describes them, writer.py writes them.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from reid_lab.errors import UserError
from reid_lab.files.strict_json import read_json
from reid_lab.gallery_format import conditions
from reid_lab.gallery_format.card import (
    CARD,
    COLUMNS,
    EMBEDDINGS,
    IDS,
    INDEX,
    NAMES,
    PATHS,
    PEOPLE,
    Card,
    GalleryError,
    check_inside,
)
from reid_lab.openset.thresholds import thresholds_of_kind
from reid_lab.openset.verdicts import GalleryVerdict, verdicts
from reid_lab.output import arguments
from reid_lab.vectors.rows import comparable_rows

OWN_COLUMNS = ("pid", "camid", "path")  # columns of every gallery
ID = np.dtype([("end", "<i8"), ("pid", "<i8"), ("camid", "<i8")])  # `end` of its path's bytes
UNKNOWN = -2  # pid or camid; not junk (pid -1) and not a distractor (pid 0)
APART = -10  # numbers of `unknown_apart` are at most this
NAMED = 1 << 62  # numbers from here on stand for names that are not numbers
CHUNK = 1 << 24  # bytes that are checked at a time


def mapped(path: Path, dtype: np.dtype[Any], count: int, width: int | None = None) -> np.ndarray:
    """The first `count` rows of a file, (count,) or (count, width), memory-mapped.

    Raises:
        GalleryError: the file is too short, or a link to another folder.
    """
    check_inside(path)
    shape = (count,) if width is None else (count, width)
    wanted = count * (width or 1) * dtype.itemsize
    there = path.stat().st_size if path.is_file() else 0
    if there < wanted:
        raise GalleryError(
            f"{path} holds {there:,} bytes, {CARD} counts {wanted:,}: the copy is incomplete, "
            "copy or build the gallery again"
        )
    if not wanted:
        return np.empty(shape, dtype)  # an empty file cannot be mapped
    return np.memmap(path, dtype, mode="r", shape=shape)


G = TypeVar("G", bound="GalleryRows")


@dataclass(frozen=True, eq=False)
class GalleryRows:
    """The N rows of a gallery at the time of opening, memory-mapped.

    Attributes:
        folder: folder of the gallery.
        card: describes the rows.
        embeddings: (N, D) float32 or float16.
        numbers: (N,) with fields `pid`, `camid` and `end` (of the path in `path_bytes`).
        path_bytes: uint8, all paths.
        column_bytes: uint8, the lines of the metadata.
        names: number -> name of a person or camera that is not a number; below `NAMED`, that of
            a person, such as 10 -> 0010.
    """

    folder: Path
    card: Card
    embeddings: np.ndarray
    numbers: np.ndarray
    path_bytes: np.ndarray
    column_bytes: np.ndarray
    names: Mapping[int, str]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}, images={len(self)})"

    @classmethod
    def open_rows(cls: type[G], folder: Path | str) -> G:
        """Open the gallery in `folder`; all but the embeddings is read and checked.

        Raises:
            GalleryError: not a gallery, or one that is incomplete, damaged or of a newer format.
        """
        folder = arguments.path("gallery", folder)
        while True:
            card = Card.read(folder)
            try:
                mapped(folder / card.file(EMBEDDINGS), card.row_dtype, card.count, card.dim)
                _check_ids(folder, card)
                gallery = cls._mapped(folder, card, _read_names(folder, card))
            except GalleryError:
                if Card.read(folder).generation == card.generation:
                    raise
                continue  # rows were removed meanwhile: their files are gone
            gallery._check()
            return gallery

    @classmethod
    def _mapped(cls: type[G], folder: Path, card: Card, names: Mapping[int, str]) -> G:
        """The rows that `card` counts, unchecked."""
        rows = mapped(folder / card.file(EMBEDDINGS), card.row_dtype, card.count, card.dim)
        numbers = mapped(folder / card.file(IDS), ID, card.count)
        byte = np.dtype(np.uint8)
        length = int(numbers["end"][-1]) if len(numbers) else 0
        paths = mapped(folder / card.file(PATHS), byte, length)
        columns = mapped(folder / card.file(COLUMNS), byte, card.columns_bytes)
        return cls(folder, card, rows, numbers, paths, columns, names)

    def reopened(self: G, card: Card, names: Mapping[int, str]) -> G:
        """Open the gallery again after its writer has appended rows, without checks."""
        return self._mapped(self.folder, card, names)

    def _check(self) -> None:
        """Check paths and metadata.

        Raises:
            GalleryError: they have changed since they were written.
        """
        card, path = self.card, self.folder / self.card.file(COLUMNS)
        check_crc32(self.folder / card.file(PATHS), card, self.path_bytes)
        check_crc32(path, card, self.column_bytes)
        if card.columns_bytes and len(self._lines) != len(self):
            raise GalleryError(
                f"{path} has {len(self._lines):,} lines for {len(self):,} images: copy or build "
                "the gallery again"
            )

    def __len__(self) -> int:
        return self.card.count

    @cached_property
    def checked(self) -> np.ndarray:
        """The embeddings (N, D), all of them read and checked once.

        Raises:
            GalleryError: they have changed since they were written, or cannot be compared.
        """
        check_embeddings(self.folder / self.card.file(EMBEDDINGS), self.card, self.embeddings)
        return self.embeddings

    def search(self, query: np.ndarray, k: int, where: str = "") -> tuple[np.ndarray, np.ndarray]:
        """The `k` nearest rows of queries (Q, D): distances and rows, (Q, k) each."""
        raise NotImplementedError

    def verdicts(self, query: np.ndarray, rate: float, where: str = "") -> list[GalleryVerdict]:
        """Verdict on each query (Q, D): known, unknown or ambiguous; see openset/verdicts.py.

        Args:
            query: (Q, D).
            rate: false-accept rate; the threshold is that of the largest fitted rate that is not
                above it (`reid-lab gallery calibrate`).
            where: filter, as of `search`.

        Raises:
            UserError: no threshold for that rate; the message lists the available ones.
        """
        thresholds = thresholds_of_kind(self.card.accept_thresholds, self.folder)
        return verdicts(self, query, thresholds, rate, where)

    def query_exit(self, exit: str | None, judged: bool = False) -> str:
        """The exit at which queries are embedded: the gallery's, or `exit` if it may be another.

        Args:
            exit: exit of the model; None takes the gallery's.
            judged: whether the gallery's thresholds are used, which hold at its own exit only.

        Raises:
            GalleryError: queries of that exit cannot be compared with the gallery.
        """
        own = self.card.exit
        if exit is None or exit == own:
            return own
        if not self.card.shared:
            raise GalleryError(
                f"{self.folder} holds embeddings of exit {own!r}, with which queries of exit "
                f"{exit!r} cannot be compared: leave the exit out, or train with "
                "model.shared_space=true and build the gallery again"
            )
        if judged:
            raise GalleryError(
                f"the thresholds of {self.folder} are of queries at its own exit, {own!r}: leave "
                "the false-accept rate or the exit out"
            )
        return exit

    def path(self, row: int) -> str:
        start = int(self.numbers["end"][row - 1]) if row else 0
        return os.fsdecode(self.path_bytes[start : int(self.numbers["end"][row])].tobytes())

    def paths(self) -> list[str]:
        """All N paths."""
        ends, data = self.numbers["end"].tolist(), self.path_bytes.tobytes()
        return [os.fsdecode(data[s:e]) for s, e in zip([0, *ends], ends, strict=False)]

    def name(self, number: int, column: str = "pid") -> str:
        """The name of a number in `column`, pid or camid; empty if unknown.

        A person is spelled as they were when they were added first, such as 0010.
        """
        if column == "camid" and UNKNOWN < number < NAMED:
            return str(int(number))
        return "" if number == UNKNOWN else self.names.get(int(number), str(int(number)))

    def names_of(self, column: str) -> list[str]:
        """The names of all N people ("pid") or cameras ("camid")."""
        numbers, inverse = np.unique(self.numbers[column], return_inverse=True)
        names = [self.name(number, column) for number in numbers.tolist()]
        return [names[index] for index in inverse.reshape(-1).tolist()]

    @cached_property
    def _lines(self) -> np.ndarray:
        """(N,) end of each line of the metadata."""
        return np.flatnonzero(self.column_bytes == ord("\n"))

    def values(self, row: int) -> dict[str, str]:
        """The metadata of an image by column; columns without a value are left out.

        Raises:
            GalleryError: the file is damaged.
        """
        return self._values(self.line(row))

    def line(self, row: int) -> bytes:
        """The metadata of an image as stored; empty without metadata."""
        if not self.card.columns_bytes:
            return b""
        start = int(self._lines[row - 1]) + 1 if row else 0
        return self.column_bytes[start : int(self._lines[row])].tobytes()

    @cached_property
    def known_people(self) -> frozenset[int]:
        """The pids of all images."""
        return frozenset(np.unique(self.numbers["pid"]).tolist())

    @cached_property
    def known_paths(self) -> set[str]:
        """All paths, shared with the galleries that a writer derives from this one."""
        return set(self.paths())

    def column(self, name: str) -> list[str]:
        """The N values of a column: metadata, `pid`, `camid` or `path`; empty where unknown.

        Raises:
            GalleryError: an unknown column; the message lists the available ones.
        """
        if name == "path":
            return self.paths()
        if name in OWN_COLUMNS:
            return self.names_of(name)
        if name not in self.card.columns:
            available = ", ".join((*OWN_COLUMNS, *self.card.columns))
            raise GalleryError(f"{self.folder}: unknown column {name!r}; available: {available}")
        lines = self.column_bytes.tobytes().split(b"\n")[:-1]
        return [self._values(line).get(name, "") for line in lines]

    def select(self, where: str) -> np.ndarray:
        """(N,) bool: images that match a filter, such as `site=north and pid!=7`.

        See conditions.py; an empty filter matches all.

        Raises:
            UserError: no text, a malformed filter or an unknown column.
        """
        arguments.check_type("where", where, str, 'a filter as text, such as "site=north"')
        if not where.strip():
            return np.ones(len(self), bool)
        names = (*OWN_COLUMNS, *self.card.columns)
        return conditions.mask(
            conditions.parse(where), {name: partial(self.column, name) for name in names}
        )

    def selected(self, where: str) -> np.ndarray:
        """(n,) rows that match a filter; see `select`.

        Raises:
            GalleryError: no image matches.
        """
        rows = np.flatnonzero(self.select(where))
        if not len(rows):
            raise GalleryError(nothing_found(self.folder, where, len(self)))
        return rows

    def _values(self, line: bytes) -> dict[str, str]:
        try:
            values = json.loads(line) if line else {}
        except ValueError:
            values = None
        if not isinstance(values, dict) or not all(isinstance(x, str) for x in values.values()):
            raise GalleryError(
                f"{self.folder / self.card.file(COLUMNS)} is damaged: copy or build the gallery "
                "again"
            )
        return values


def nothing_found(what: object, where: str, images: int) -> str:
    """The message on a search of `what` that has no images, or none that match a filter."""
    if not images:
        return f"{what} has no images: add some with reid-lab gallery add"
    return f"no image of {what} has {where}: change the filter"


def number_of(name: str) -> int:
    """The pid or camid of a name: -1 and whole numbers keep their value, other text is hashed.

    A name has the same number in every gallery.
    """
    if name == "-1" or (name.isdecimal() and len(name) < 20 and int(name) < NAMED):
        return int(name)
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return NAMED + int.from_bytes(digest, "big") % NAMED


def numbers_of(names: Iterable[str]) -> np.ndarray:
    """(n,) int64, the numbers of names; `UNKNOWN` for empty ones."""
    return np.array([number_of(name) if name else UNKNOWN for name in names], np.int64)


def unknown_apart(numbers: np.ndarray, first: int = 0) -> np.ndarray:
    """(N,) pids or camids, with a negative number of its own for each unknown one.

    Unknown people then match nobody, and unknown cameras hide nothing else.

    Args:
        numbers: (N,).
        first: offset of these numbers, so that those of several galleries differ.
    """
    own = APART - first - np.arange(len(numbers))
    return np.where(numbers == UNKNOWN, own, numbers)


def named_of(people: Iterable[str], cameras: Iterable[str] = ()) -> dict[int, str]:
    """Number -> name, for names that are not their number.

    Those of cameras are text, those of people also numbers with leading zeros, such as 0010. A
    person has the first of several spellings.
    """
    found: dict[int, str] = {}
    for person in filter(None, people):
        found.setdefault(number_of(person), person)
    found |= {n: name for name in filter(None, cameras) if (n := number_of(name)) >= NAMED}
    return {number: name for number, name in found.items() if name != str(number)}


def _check_ids(folder: Path, card: Card) -> None:
    """Read and check `ids.bin`.

    Raises:
        GalleryError: it is too short, has changed, or holds impossible numbers.
    """
    path = folder / card.file(IDS)
    numbers = mapped(path, ID, card.count)
    check_crc32(path, card, numbers)
    ends, known = numbers["end"], np.minimum(numbers["pid"], numbers["camid"])
    if len(numbers) and (ends[0] < 0 or (ends[1:] < ends[:-1]).any() or known.min() < UNKNOWN):
        raise GalleryError(f"{path} is damaged: copy or build the gallery again")


def _read_names(folder: Path, card: Card) -> dict[int, str]:
    """Number -> name; each name is checked against its number, which is its value or hash.

    Raises:
        GalleryError: a file is malformed, or was edited.
    """
    texts = _names_in(folder / card.file(NAMES), hashed=True)
    return texts | _names_in(folder / card.file(PEOPLE), hashed=False)


def _names_in(path: Path, hashed: bool) -> dict[int, str]:
    check_inside(path)
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        if isinstance(content, dict) and all(isinstance(name, str) for name in content.values()):
            found = {n: s for n, s in named_of(content.values()).items() if (n >= NAMED) == hashed}
            if {str(number): name for number, name in found.items()} == content:
                return found
    except UserError as error:
        raise GalleryError(f"{error}. Copy the gallery again, or build it again") from error
    raise GalleryError(f"{path} is damaged: copy or build the gallery again")


def check_embeddings(path: Path, card: Card, rows: np.ndarray) -> None:
    """Check that rows (N, D) are unchanged and can be compared; all are read.

    Raises:
        GalleryError: the file has changed, or a row is not finite, zero, too long, or not of length
            1 under cosine.
    """
    crc, step = 0, max(1, CHUNK // card.row_bytes)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        crc = crc32(part, crc)
        bad = np.flatnonzero(~comparable_rows(part, card.metric == "cosine"))
        if len(bad):
            raise GalleryError(
                f"{path}: row {start + bad[0]} is not finite, or of a length that cannot be "
                f"compared by {card.metric}: copy or build the gallery again"
            )
    _check_same(path, card, crc)


def check_crc32(path: Path, card: Card, content: np.ndarray | bytes) -> None:
    """Check that the counted bytes of a file are unchanged.

    Raises:
        GalleryError: they are not.
    """
    _check_same(path, card, crc32(content))


def crc32(content: np.ndarray | bytes, before: int = 0) -> int:
    """CRC-32 of `content`, continuing from `before`."""
    return zlib.crc32(content, before)  # type: ignore[arg-type]  # an array is a buffer


def _check_same(path: Path, card: Card, crc: int) -> None:
    own = {card.file(name): name for name in (EMBEDDINGS, IDS, PATHS, COLUMNS)}
    name, fix = own.get(path.name, path.name), "copy or build the gallery again"
    if path.name == card.index_file:
        name, fix = INDEX, "remove it, and it is built again from the embeddings"
    if crc != card.crc32.get(name, crc):
        raise GalleryError(
            f"{path} has changed since it was written (CRC-32 {crc:08x} instead of "
            f"{card.crc32[name]:08x}): {fix}"
        )
