"""The layout of a saved gallery, and its card. Without torch.

| file | holds |
|---|---|
| `gallery.json` | the card: number of rows, model, metric, CRC-32 of each file |
| `embeddings.bin` | rows (N, D), float32 or float16, little endian |
| `ids.bin` | for each row: the end of its path in `paths.bin`, pid, camid |
| `paths.bin` | the paths, one after the other |
| `columns.jsonl` | the metadata, one JSON object per line and row |
| `names.json` | names of people and cameras that are not numbers |
| `people.json` | names of people that are numbers with leading zeros, such as 0010 |
| `index*.faiss` | an approximate index |

Data files only grow. Bytes behind the rows that the card counts come from an interrupted append:
they are never read, and the next append overwrites them. Removing rows writes a new generation of
all data files (`embeddings.1.bin`, ...) and then the card that names it; see writer.py.
Galleries of older versions have no CRC-32, names, metadata or generation, and lose leading zeros.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from reid_lab.errors import UserError, first
from reid_lab.files import outputs
from reid_lab.files.strict_json import check_format, checked, file_in, read_json
from reid_lab.files.tables import write_json
from reid_lab.openset.thresholds import AcceptThresholds
from reid_lab.types import MAX_SIDE

CARD, EMBEDDINGS, IDS, PATHS = outputs.CARD, "embeddings.bin", "ids.bin", "paths.bin"
NAMES, PEOPLE = "names.json", "people.json"
COLUMNS, INDEX = "columns.jsonl", "index.faiss"
FORMAT = 2
# fields that galleries of older versions lack
LATER = {
    "indexed",
    "crc32",
    "generation",
    "columns",
    "columns_bytes",
    "accept_thresholds",
    "shared",
}
RENAMED = {"calibrations": "accept_thresholds"}  # field of older galleries -> its name
MAX_DIM = 1 << 20

IndexName = Literal["flat", "ivf", "hnsw", "ivf_pq", "sq8"]
IndexMetric = Literal["euclidean", "cosine"]
Dtype = Literal["float32", "float16"]
Count = Annotated[int, Field(ge=0, lt=2**48)]
PixelSide = Annotated[int, Field(ge=0, le=MAX_SIDE)]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class GalleryError(UserError):
    """A saved gallery cannot be used, or rows cannot be added to it."""


@dataclass(frozen=True)
class Card:
    """`gallery.json`: describes `count` rows of `dim` numbers.

    Args:
        fingerprint: fingerprint of the model, see `reid_lab.checkpoint`.
        dim: D of the embeddings.
        exit: exit of the model.
        image: height and width of the model's input; (0, 0) if unknown.
        metric: metric of the distances; under cosine the rows have length 1.
        dtype: type of the rows.
        index: name of the index.
        pattern: regular expression with groups pid and camid, searched in an image's path.
        count: N, the number of rows.
        trained: number of rows that the index was trained on.
        indexed: number of rows in the index file, part of its name.
        crc32: checksum of the counted bytes of each file, by its name in generation 0.
        generation: generation of the data files; part of their names from 1 on.
        columns: names of the metadata.
        accept_thresholds: thresholds for false-accept rates, see openset/thresholds.py.
        columns_bytes: valid bytes of `columns.jsonl`; 0 without metadata.
        shared: whether queries of every exit of the model can be compared with these rows.
        format: version of the layout.
    """

    fingerprint: Annotated[str, Field(min_length=1, max_length=200)]
    dim: Annotated[int, Field(ge=1, le=MAX_DIM)]
    exit: Annotated[str, Field(max_length=200)] = ""
    image: tuple[PixelSide, PixelSide] = (0, 0)
    metric: IndexMetric = "euclidean"
    dtype: Dtype = "float32"
    index: IndexName = "flat"
    pattern: Annotated[str, Field(max_length=10_000)] = ""
    count: Count = 0
    trained: Count = 0
    indexed: Count = 0
    crc32: dict[str, Annotated[int, Field(ge=0, lt=2**32)]] = field(default_factory=dict)
    generation: Count = 0
    columns: Annotated[tuple[ColumnName, ...], Field(max_length=1000)] = ()
    columns_bytes: Count = 0
    accept_thresholds: Annotated[tuple[AcceptThresholds, ...], Field(max_length=10)] = ()
    shared: bool = False
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
        """One file per index: the old one is kept until the card counts the new one."""
        if self.generation:
            return f"index.{self.generation}.{self.indexed}.faiss"
        return f"index.{self.indexed}.faiss" if self.indexed else INDEX

    def file(self, name: str) -> str:
        """The name of a data file in this generation."""
        stem, ending = name.rsplit(".", 1)
        return f"{stem}.{self.generation}.{ending}" if self.generation else name

    def write(self, folder: Path) -> None:
        write_json(folder / CARD, asdict(self))

    @staticmethod
    def read(folder: Path) -> Card:
        """The card of the gallery in `folder`.

        Raises:
            GalleryError: not a gallery, an invalid card, or a newer format.
        """
        fix = "" if (folder / CARD).is_file() else f"{_beside(folder)}build one first"
        path = file_in(folder, CARD, "a saved gallery", fix, GalleryError)
        check_inside(path)
        try:
            content = read_json(path)
            check_format(path, content, FORMAT)
            return replace(checked(path, content, Card, LATER, RENAMED), format=FORMAT)
        except UserError as error:
            raise GalleryError(f"{error}. Copy the gallery again, or build it again") from error


def _beside(folder: Path) -> str:
    """The galleries that may be meant, as the start of a fix; empty without any."""
    found = sorted(path.parent.name for path in folder.absolute().parent.glob(f"*/{CARD}"))
    return (
        f"give one of {', '.join(first(found))} of {folder.absolute().parent}, or " if found else ""
    )


def check_inside(path: Path) -> None:
    """Raises:
    GalleryError: a gallery's file is a link to another folder.
    """
    if path.resolve().parent != path.parent.resolve():
        raise GalleryError(f"{path} is a link to {path.resolve()}: put the file itself there")
