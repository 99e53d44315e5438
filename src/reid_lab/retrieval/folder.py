"""The files of a saved gallery, and the two things that keep them whole: a count and a lock.

`gallery.json` counts the rows. The data files only grow: what lies behind the counted rows was
left by an interrupted append, nobody reads it, and the next append writes over it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from reid_lab.errors import UserError
from reid_lab.results import write_json
from reid_lab.retrieval.flat import IndexMetric, IndexName

CARD, EMBEDDINGS, IDS, PATHS = "gallery.json", "embeddings.bin", "ids.bin", "paths.bin"
INDEX, LOCK = "index.faiss", ".lock"
FORMAT = 1
ID = np.dtype([("end", "<i8"), ("pid", "<i8"), ("camid", "<i8")])  # `end` of its path's bytes
Dtype = Literal["float32", "float16"]


class GalleryError(UserError):
    """What is wrong with a saved gallery, or with what should be put into it."""


@dataclass(frozen=True)
class Card:
    """`gallery.json`: `count` rows of `dim` numbers, and what made them.

    Args:
        fingerprint: of the model (see `reid_lab.checkpoint`).
        exit: of the model, whose embeddings they are.
        image: height and width that the model was given.
        metric: that they are compared by; under cosine the rows have length 1.
        pattern: a regular expression that finds pid and camid in an image's path.
        trained: rows that the index has learned from.
    """

    fingerprint: str
    dim: int
    exit: str = ""
    image: tuple[int, int] = (0, 0)
    metric: IndexMetric = "euclidean"
    dtype: Dtype = "float32"
    index: IndexName = "flat"
    pattern: str = ""
    count: int = 0
    trained: int = 0
    format: int = FORMAT

    def __post_init__(self) -> None:
        allowed = {"metric": IndexMetric, "dtype": Dtype, "index": IndexName}
        for name, choices in allowed.items():
            if getattr(self, name) not in get_args(choices):
                given = f"{name}={getattr(self, name)!r}"
                raise GalleryError(f"{given}: choose one of {', '.join(get_args(choices))}")
        if self.dim < 1 or self.count < 0:
            raise GalleryError(f"dim={self.dim}, count={self.count}: no gallery is like that")

    @property
    def row_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        return self.dim * self.row_dtype.itemsize

    def write(self, folder: Path) -> None:
        write_json(folder / CARD, asdict(self))

    @staticmethod
    def read(folder: Path) -> Card:
        """The card of the gallery in `folder`.

        Raises:
            GalleryError: no gallery there, a card that cannot be read, or of a newer format.
        """
        path = folder / CARD
        if not path.is_file():
            what = f"has no {CARD}" if folder.is_dir() else "does not exist"
            raise GalleryError(f"{folder} is no saved gallery, it {what}: build one first")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if int(content["format"]) > FORMAT:
                raise GalleryError(
                    f"{folder} has format {content['format']}, this version reads up to {FORMAT}: "
                    "update reid_lab, or build the gallery again"
                )
            known = {f.name: content[f.name] for f in fields(Card)}
            return Card(**{**known, "image": tuple(known["image"])})
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise GalleryError(
                f"{path} cannot be read ({type(error).__name__}: {error}): build the gallery again"
            ) from error


def mapped(path: Path, dtype: np.dtype[Any], count: int, width: int | None = None) -> np.ndarray:
    """The first `count` rows of a file, (count,) or (count, width), read from disk when used.

    Raises:
        GalleryError: the file is shorter than that.
    """
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


def put(path: Path, start: int, data: bytes | memoryview) -> None:
    """Write `data` at byte `start` and cut off what came behind; on the disk when it returns."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(start)
        file.seek(start)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of `folder`. The lock ends with the process, however it ends.

    Raises:
        GalleryError: another process writes there.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise GalleryError(
                f"{folder} is being written to by process {file.read().strip() or 'unknown'}: "
                "wait until it has ended"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
