"""`queries.json`: gallery images that exits rank first, for some queries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reid_lab.files.stored import StoredFileError, printable, read_json
from reid_lab.files.tables import write_json
from reid_lab.results.cells import line

QUERIES = "queries.json"
MOST_IMAGES = 20_000  # images of all ranked lists


class ImageCrop(NamedTuple):
    """An image file, or its part in a box (left, top, right, bottom) in pixels."""

    path: Path
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class RankedImage:
    """A gallery image of a ranked list; `match`: it shows the person of the query."""

    image: ImageCrop
    pid: int | str
    camid: int | str
    distance: float
    match: bool


@dataclass(frozen=True)
class RankedQuery:
    """A query image with one ranked list per exit.

    `group`: easy, hard, worst or sample. `first_match`: the rank of its first match, if only the
    last exit's list is kept; else 0.
    """

    image: ImageCrop
    pid: int | str
    camid: int | str
    group: str
    ranked: Mapping[str, Sequence[RankedImage]]
    first_match: int = 0


def write_queries(path: Path, queries: Sequence[RankedQuery]) -> None:
    write_json(path, {"queries": [_query(query) for query in queries]})


def read_queries(path: Path, folder: Path) -> list[RankedQuery]:
    """The queries of a file; empty if there is no such file.

    Args:
        folder: folder that relative paths of images start from.

    Raises:
        StoredFileError: the file is malformed, or has too many images.
    """
    if not os.path.lexists(path):
        return []
    try:
        queries = [
            RankedQuery(
                image=_read_image(entry, folder),
                pid=_name(entry["pid"]),
                camid=_name(entry["camid"]),
                group=str(_name(entry.get("group", "sample"))),
                ranked={
                    str(_name(exit)): _read_images(images, folder)
                    for exit, images in entry["ranked"].items()
                },
                first_match=int(entry.get("first_match", 0)),
            )
            for entry in read_json(path).get("queries", [])
        ]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, StoredFileError):
            raise
        raise StoredFileError(path, f"not as expected: {error!r}") from error
    images = sum(1 + sum(map(len, query.ranked.values())) for query in queries)
    if images > MOST_IMAGES:
        raise StoredFileError(path, f"{images:,} images, at most {MOST_IMAGES:,}")
    return queries


def _query(query: RankedQuery) -> dict[str, Any]:
    first = {"first_match": query.first_match} if query.first_match else {}
    return {
        **_image(query),
        "group": query.group,
        **first,
        "ranked": {
            exit: [
                {**_image(shown), "distance": shown.distance, "match": shown.match}
                for shown in images
            ]
            for exit, images in query.ranked.items()
        },
    }


def _image(of: RankedQuery | RankedImage) -> dict[str, Any]:
    box = {} if of.image.box is None else {"box": list(of.image.box)}
    return {"path": str(of.image.path), "pid": of.pid, "camid": of.camid, **box}


def _read_image(entry: Mapping[str, Any], folder: Path) -> ImageCrop:
    box = entry.get("box")
    path = folder / entry["path"]  # an absolute path stays as it is
    if box is None:
        return ImageCrop(path)
    left, top, right, bottom = (int(edge) for edge in box)
    return ImageCrop(path, (left, top, right, bottom))


def _read_images(entries: Iterable[Mapping[str, Any]], folder: Path) -> list[RankedImage]:
    return [
        RankedImage(
            image=_read_image(entry, folder),
            pid=_name(entry["pid"]),
            camid=_name(entry["camid"]),
            distance=float(entry["distance"]),
            match=_truth(entry["match"]),
        )
        for entry in entries
    ]


def _name(value: object) -> int | str:
    """A number, or a text that can be printed."""
    if isinstance(value, int):
        return value
    if not isinstance(value, (str, float)):
        raise TypeError(f"{value!r:.40} is not a name")
    return line("name", printable(str(value)))


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"match is {value!r:.40}, neither true nor false")
    return value
