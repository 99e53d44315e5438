"""A gallery as a CSV dataset of FiftyOne (`fiftyone.types.CSVDataset`). FiftyOne is not needed.

| file | holds |
|---|---|
| `labels.csv` | one row per image: `filepath`, `pid`, `camid`, metadata, `embedding` |
| `load.py` | how FiftyOne reads the columns; run as a script, it opens the app |

Queries of a search are rows as well: `role` is gallery, query, or both, as FiftyOne has one sample
per file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError, with_options
from reid_lab.files.atomic import write_text
from reid_lab.files.outputs import check_writable
from reid_lab.files.tables import write_csv
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.rows import nothing_found
from reid_lab.output import arguments

LABELS, LOAD = "labels.csv", "load.py"
GALLERY, QUERY, BOTH = "gallery", "query", "both"
FOUND = ("found", "found_path", "distance", "right", "verdict")  # columns of a query
# names that FiftyOne keeps for itself, and ours
TAKEN = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}
TAKEN |= {"role", "pid", "camid", "embedding", *FOUND}
SCRIPT = '''\
"""Open this dataset in FiftyOne: pip install fiftyone, then run this file."""

import json
from pathlib import Path

import numpy as np


def vector(text):
    return np.array(json.loads(text), np.float32)


FIELDS = {fields}

if __name__ == "__main__":
    import fiftyone as fo

    people = fo.Dataset.from_dir(
        dataset_dir=str(Path(__file__).parent),
        data_path={{}},  # file paths are whole
        dataset_type=fo.types.CSVDataset,
        fields=FIELDS,
        name={name!r},
        overwrite=True,
    )
    people.persistent = True
    fo.launch_app(people).wait()
'''


@dataclass(frozen=True)
class FiftyoneExport:
    """A dataset for FiftyOne that was written.

    Attributes:
        folder: folder with `labels.csv` and `load.py`.
        images: number of images of the gallery.
        queries: number of queries.
        missing: number of image files that are not on this machine.
    """

    folder: Path
    images: int
    queries: int
    missing: int


def export_fiftyone(
    gallery: SavedGallery | Path | str,
    out: Path | str,
    *,
    matches: Path | str | None = None,
    name: str = "people",
) -> FiftyoneExport:
    """Write a gallery, and the results of a search, as a CSV dataset of FiftyOne.

    Args:
        gallery: gallery, or its folder.
        out: a new folder. Images are not copied to it.
        matches: results of `reid-lab gallery search --out FILE.jsonl`: queries become samples, too.
        name: name of the dataset in FiftyOne.

    Raises:
        UserError: `out` exists or cannot be written, an empty gallery, or `matches` is of another
            kind.
        GalleryError: not a gallery.
    """
    out, matches = arguments.path("out", out), arguments.path_or_none("matches", matches)
    if out.exists():
        text = f"{out} exists: give a new folder, or remove it"
        raise with_options(UserError(f"out={text}"), f"--out {text}")
    check_writable(out)
    if not isinstance(gallery, SavedGallery):
        gallery = SavedGallery.open(gallery)
    rows = {row["filepath"]: row for row in gallery_rows(gallery)}
    queries = 0
    for row in () if matches is None else query_rows(matches):
        queries += 1
        known = rows.get(row["filepath"])
        rows[row["filepath"]] = {**row, **known, "role": BOTH, **_found(row)} if known else row
    if not rows:
        raise UserError(nothing_found(gallery.folder, "", 0))
    names = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = [{column: row.get(column, "") for column in names} for row in rows.values()]
    write_csv(out / LABELS, table)
    write_text(out / LOAD, SCRIPT.format(fields=_fields(names), name=name))
    missing = sum(not Path(path).is_file() for path in rows)
    return FiftyoneExport(out, len(gallery), queries, missing)


def gallery_rows(gallery: SavedGallery) -> Iterable[dict[str, Any]]:
    """One row per image of a gallery; see the module."""
    columns = _columns(gallery.card.columns)
    people, cameras = (gallery.names_of(name) for name in ("pid", "camid"))
    for row, path in enumerate(gallery.paths()):
        values = gallery.values(row)
        yield {
            "filepath": str(Path(path).absolute()),
            "role": GALLERY,
            "pid": people[row],
            "camid": cameras[row],
            **{field: values.get(name, "") for name, field in columns.items()},
            "embedding": json.dumps([round(float(x), 6) for x in gallery.checked[row]]),
        }


def query_rows(path: Path) -> Iterable[dict[str, Any]]:
    """One row per query of a search, with the nearest image.

    Raises:
        UserError: the file cannot be read, or has boxes or tracklets rather than one file per
            query.
    """
    for number, line in enumerate(_lines(path), 1):
        try:
            found = json.loads(line)
            query, matches = str(found["query"]), found["matches"]
            whole = not found["box"] and found["images"] == 1
            first = matches[0] if matches else {}
            row = {
                "filepath": str(Path(query).absolute()),
                "role": QUERY,
                "pid": found["query_pid"],
                "camid": found["query_camid"],
                "found": first.get("pid", ""),
                "found_path": first.get("path", ""),
                "distance": first.get("distance", ""),
                "right": "" if first.get("right") is None else json.dumps(first["right"]),
                "verdict": found.get("verdict", ""),
            }
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise UserError(
                f"{path}, line {number}: not a result of reid-lab gallery search --out FILE.jsonl"
            ) from error
        if not whole:
            raise UserError(
                f"{path}, line {number}: {query} is searched by boxes or as a tracklet, and "
                "FiftyOne has one sample for each file: search image files"
            )
        yield row


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        text = f"{path} cannot be read: {error}"
        raise with_options(UserError(f"matches={text}"), f"--matches {text}") from error


def _found(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in FOUND}


def _columns(names: Sequence[str]) -> dict[str, str]:
    """Metadata -> field name: letters, digits and underscores, without FiftyOne's own names."""
    fields = dict[str, str]()
    for name in names:
        field = re.sub(r"\W", "_", name).strip("_") or "column"
        while field.lower() in TAKEN or field[0].isdigit() or field in fields.values():
            field = f"column_{field}"
        fields[name] = field
    return fields


def _fields(names: Sequence[str]) -> str:
    """Python source of a dict: field -> how its text is parsed."""
    readers = {"embedding": "vector", "distance": "float", "right": "json.loads"}
    lines = [f"    {name!r}: {readers.get(name, 'str')},\n" for name in names if name != "filepath"]
    return "{\n" + "".join(lines) + "}"
