"""Export a service's people and the users' labels of matches to files, without torch.

- `images/`: JPEGs of known people and of confirmed or rejected matches
- `images.csv`: `path`, `pid`, `camid`, `source` of enrolled images and confirmed matches
- `labels.csv`: `path`, `pid`, `correct`, `exit`, `distance`, `time` of all labels

`images.csv` is read by `reid-lab gallery build` and `dataset=csv`, to calibrate and to train.
Images are the thumbnails that the service keeps; enrolled images without one are left out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reid_lab.errors import UserError, with_options
from reid_lab.files.atomic import write_bytes
from reid_lab.files.outputs import check_writable
from reid_lab.files.regular import no_file
from reid_lab.files.tables import write_csv
from reid_lab.output import arguments
from reid_lab.serve.people_file import WAIT_SECONDS, is_locked, locked_error

Row = dict[str, Any]
ENROLLED, CONFIRMED = "enrolled", "confirmed"
UNKNOWN_CAMERA = "unknown"  # camera of an image without one
FILLED = "length(thumbnail) > 0"


@dataclass(frozen=True)
class PeopleExport:
    """What `export_people` wrote.

    Attributes:
        folder: folder of the files.
        enrolled: number of enrolled images.
        confirmed: number of matches that users confirmed.
        rejected: number of matches that users rejected.
        left_out: number of enrolled images without a thumbnail.
    """

    folder: Path
    enrolled: int
    confirmed: int
    rejected: int
    left_out: int


def export_people(people: Path | str, out: Path | str) -> PeopleExport:
    """Write the images and labels of a service's people; the service may run.

    Args:
        people: file of people of `reid-lab serve`.
        out: a new folder.

    Raises:
        UserError: no file of people, nothing in it, one that another process holds, or `out`
            exists or cannot be written.
    """
    people, out = arguments.path("people", people), arguments.path("out", out)
    if out.exists():
        text = f"{out} exists: give a new folder, or remove it"
        raise with_options(UserError(f"out={text}"), f"--out {text}")
    check_writable(out)
    with closing(opened(people)) as database:
        try:
            (everyone,) = database.execute("SELECT count(*) FROM image").fetchone()
            images = [_written(row, out) for row in _enrolled(database)]
            labels = [_written(row, out) for row in _labels(database)]
        except sqlite3.DatabaseError as error:
            if is_locked(error):
                raise locked_error(people) from error
            raise UserError(f"{people} is not a file of people ({error})") from error
    if not images and not labels:
        raise UserError(f"{people} has no images: enrol people, or confirm matches, first")
    confirmed = [
        {"path": row["path"], "pid": row["pid"], "camid": UNKNOWN_CAMERA, "source": CONFIRMED}
        for row in labels
        if row["correct"]
    ]
    for name, rows in (("images.csv", [*images, *confirmed]), ("labels.csv", labels)):
        if rows:
            write_csv(out / name, rows)
    rejected = len(labels) - len(confirmed)
    return PeopleExport(out, len(images), len(confirmed), rejected, everyone - len(images))


def _written(row: Row, out: Path) -> Row:
    """Write the JPEG of a row, and return the rest: all images may not fit in memory."""
    write_bytes(out / row["path"], row.pop("data"), durable=False)
    return row


def opened(path: Path) -> sqlite3.Connection:
    """Open a file of people for reading; a service may be using it.

    Raises:
        UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path} {no_file(path)}: give the file of people of reid-lab serve")
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS)


def _enrolled(database: sqlite3.Connection) -> Iterator[Row]:
    query = f"SELECT id, pid, camid, thumbnail FROM image WHERE {FILLED} ORDER BY id"
    for number, pid, camid, data in database.execute(query):
        path = f"images/{number:06}.jpg"
        yield {
            "path": path,
            "pid": pid,
            "camid": camid or UNKNOWN_CAMERA,
            "source": ENROLLED,
            "data": data,
        }


def _labels(database: sqlite3.Connection) -> Iterator[Row]:
    query = "SELECT id, pid, correct, exit, distance, added, image FROM label ORDER BY id"
    for number, pid, correct, exit, distance, added, data in database.execute(query):
        yield {
            "path": f"images/label_{number:06}.jpg",
            "pid": pid,
            "correct": correct,
            "exit": exit,
            "distance": distance,
            "time": datetime.fromtimestamp(added, timezone.utc).isoformat(timespec="seconds"),
            "data": data,
        }
