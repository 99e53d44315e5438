"""The files of a saved gallery, checked before they are used.

`gallery.json` counts the rows. The data files only grow: what lies behind the counted rows was
left by an interrupted append, nobody reads it, and the next append writes over it. The card keeps
a CRC-32 of what is counted in each file, so that bytes which have changed since are noticed;
galleries from before it was kept are searched without.

Without torch, so that the runtime reads them, too.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from reid_lab.errors import UserError
from reid_lab.files.folders import restore
from reid_lab.files.strict_json import check_format, checked, read_json
from reid_lab.files.tables import write_json
from reid_lab.types import MAX_SIDE

CARD, EMBEDDINGS, IDS, PATHS = "gallery.json", "embeddings.bin", "ids.bin", "paths.bin"
INDEX = "index.faiss"
FORMAT = 1
LATER = {"indexed", "crc32"}  # fields that galleries of older versions lack
ID = np.dtype([("end", "<i8"), ("pid", "<i8"), ("camid", "<i8")])  # `end` of its path's bytes
UNKNOWN = -2  # a pid or camid that is not known; -1 is a box without a person, 0 a distractor
MAX_DIM = 1 << 20
CHUNK = 1 << 24  # bytes that are checked at a time
SHORTEST, LONGEST = 1e-15, 1e18  # rows whose squared distances float32 holds
UNIT = 0.05  # how far from 1 the length of a row may be that was scaled to 1

IndexName = Literal["flat", "ivf", "hnsw", "ivf_pq", "sq8"]
IndexMetric = Literal["euclidean", "cosine"]
Dtype = Literal["float32", "float16"]
Count = Annotated[int, Field(ge=0, lt=2**48)]
Side = Annotated[int, Field(ge=0, le=MAX_SIDE)]


class GalleryError(UserError):
    """What is wrong with a saved gallery, or with what should be put into it."""


@dataclass(frozen=True)
class Card:
    """`gallery.json`: `count` rows of `dim` numbers, and what made them.

    Args:
        fingerprint: of the model (see `reid_lab.checkpoint`).
        exit: of the model, whose embeddings they are.
        image: height and width that the model was given; (0, 0) where it is not known.
        metric: that they are compared by; under cosine the rows have length 1.
        pattern: a regular expression that finds pid and camid in an image's path.
        trained: rows that the index has learned from.
        indexed: rows in the index's file, which is named after them.
        crc32: of the counted bytes of each file, by its name.
    """

    fingerprint: Annotated[str, Field(min_length=1, max_length=200)]
    dim: Annotated[int, Field(ge=1, le=MAX_DIM)]
    exit: Annotated[str, Field(max_length=200)] = ""
    image: tuple[Side, Side] = (0, 0)
    metric: IndexMetric = "euclidean"
    dtype: Dtype = "float32"
    index: IndexName = "flat"
    pattern: Annotated[str, Field(max_length=10_000)] = ""
    count: Count = 0
    trained: Count = 0
    indexed: Count = 0
    crc32: dict[str, Annotated[int, Field(ge=0, lt=2**32)]] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if max(self.trained, self.indexed) > self.count:
            raise ValueError(
                f"trained={self.trained} or indexed={self.indexed} is more than count={self.count}"
            )

    @property
    def row_dtype(self) -> np.dtype[Any]:
        result: np.dtype[Any] = np.dtype(self.dtype).newbyteorder("<")
        return result

    @property
    def row_bytes(self) -> int:
        return self.dim * self.row_dtype.itemsize

    @property
    def index_file(self) -> str:
        """A file an index, so that the old one stays until the card counts the new one."""
        return f"index.{self.indexed}.faiss" if self.indexed else INDEX

    def write(self, folder: Path) -> None:
        write_json(folder / CARD, asdict(self))

    @staticmethod
    def read(folder: Path) -> Card:
        """The card of the gallery in `folder`.

        Raises:
            GalleryError: no gallery there, a card that is not valid, or of a newer format.
        """
        restore(folder)
        path = folder / CARD
        if not path.is_file():
            what = f"has no {CARD}" if folder.is_dir() else "does not exist"
            what = "is a file" if folder.is_file() else what
            raise GalleryError(f"{folder} is no saved gallery, it {what}: build one first")
        check_inside(path)
        try:
            content = read_json(path)
            check_format(path, content, FORMAT)
            return checked(path, content, Card, LATER)
        except UserError as error:
            raise GalleryError(f"{error}. Copy the gallery again, or build it again") from error


def mapped(path: Path, dtype: np.dtype[Any], count: int, width: int | None = None) -> np.ndarray:
    """The first `count` rows of a file, (count,) or (count, width), read from disk when used.

    Raises:
        GalleryError: the file is shorter than that, or a link to elsewhere.
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


def check_inside(path: Path) -> None:
    """Raises:
    GalleryError: a gallery's file is a link to elsewhere, where nothing is read or written.
    """
    if path.resolve().parent != path.parent.resolve():
        raise GalleryError(f"{path} is a link to {path.resolve()}: put the file itself there")


def map_ids(folder: Path, card: Card) -> tuple[np.ndarray, np.ndarray]:
    """`ids.bin` (N,) and the counted bytes of `paths.bin`."""
    numbers = mapped(folder / IDS, ID, card.count)
    length = int(numbers["end"][-1]) if len(numbers) else 0
    return numbers, mapped(folder / PATHS, np.dtype(np.uint8), length)


def read_ids(folder: Path, card: Card) -> tuple[np.ndarray, np.ndarray]:
    """The same, all of it read and checked.

    Raises:
        GalleryError: a file is too short, has changed, or says what cannot be.
    """
    numbers = mapped(folder / IDS, ID, card.count)
    check_crc32(folder / IDS, card, numbers)
    ends, known = numbers["end"], np.minimum(numbers["pid"], numbers["camid"])
    if len(numbers) and (ends[0] < 0 or (ends[1:] < ends[:-1]).any() or known.min() < UNKNOWN):
        raise GalleryError(f"{folder / IDS} is damaged: copy or build the gallery again")
    paths = map_ids(folder, card)[1]
    check_crc32(folder / PATHS, card, paths)
    return numbers, paths


def path_in(paths: np.ndarray, start: int, end: int) -> str:
    return os.fsdecode(paths[start:end].tobytes())


def all_paths(paths: np.ndarray, numbers: np.ndarray) -> list[str]:
    ends, data = numbers["end"].tolist(), paths.tobytes()
    return [os.fsdecode(data[s:e]) for s, e in zip([0, *ends], ends, strict=False)]


def check_embeddings(path: Path, card: Card, rows: np.ndarray) -> None:
    """Whether rows (N, D) are those that were saved, and can be compared. Reads all of them.

    Raises:
        GalleryError: the file has changed, or a row is not finite, zero, too long, or not of
            length 1 in a gallery that is compared by cosine.
    """
    crc, step = 0, max(1, CHUNK // card.row_bytes)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        crc = crc32(part, crc)
        bad = np.flatnonzero(~comparable(part, card.metric == "cosine"))
        if len(bad):
            raise GalleryError(
                f"{path}: row {start + bad[0]} is not finite, or of a length that cannot be "
                f"compared by {card.metric}: copy or build the gallery again"
            )
    _check_same(path, card, crc)


def comparable(rows: np.ndarray, unit: bool = False) -> np.ndarray:
    """(N,) whether rows (N, D) are finite, of a length whose square float32 holds; or of 1."""
    wide = rows.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        near_one = np.abs(lengths - 1) < UNIT  # false of NaN
        result: np.ndarray = near_one if unit else (lengths >= SHORTEST) & (lengths <= LONGEST)
        return result


def check_crc32(path: Path, card: Card, content: np.ndarray | bytes) -> None:
    """Whether a file's counted bytes are those that were saved.

    Raises:
        GalleryError: they are not.
    """
    _check_same(path, card, crc32(content))


def crc32(content: np.ndarray | bytes, before: int = 0) -> int:
    """Of what follows bytes whose CRC-32 is `before`."""
    return zlib.crc32(content, before)  # type: ignore[arg-type]  # an array is a buffer


def _check_same(path: Path, card: Card, crc: int) -> None:
    name, fix = path.name, "copy or build the gallery again"
    if name == card.index_file:
        name, fix = INDEX, "remove it, and it is built again from the embeddings"
    if crc != card.crc32.get(name, crc):
        raise GalleryError(
            f"{path} has changed since it was written (CRC-32 {crc:08x} instead of "
            f"{card.crc32[name]:08x}): {fix}"
        )
