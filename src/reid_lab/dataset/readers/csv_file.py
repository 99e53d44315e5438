"""Reader of your own images, listed in a CSV file, one image or one box of an image per line."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.own import (
    Names,
    check_parts,
    make_benchmark,
    number_labels,
    number_people,
    raise_problems,
)
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.files.regular import no_file
from reid_lab.images.boxes import SIDES, Box
from reid_lab.protocol import JUNK
from reid_lab.types import Fraction, Seed

REQUIRED = ("path", "pid", "camid")
OPTIONAL = ("split", "tracklet", "box", *SIDES)
PARTS = ("train", "query", "gallery", "test")
ROOT_FIX = (
    "Set dataset.root to its folder and dataset.reader.file to its name. It looks like\n"
    "    path,pid,camid\n    a/1.jpg,anna,door-3"
)


def read_csv(
    root: Path | str,
    file: str = "images.csv",
    train_share: Fraction = 0.5,
    seed: Seed = 0,
    tracklets: bool = False,
) -> Benchmark:
    """Read a CSV file (UTF-8, with a header) of path, pid, camid; optionally split, tracklet, box.

    `path` is relative to `root`. `pid` and `camid` are any text, numbered in sorted order from
    1; if all are whole numbers (`7` or, as pandas writes it, `7.0`) of up to 18 digits, they
    keep their values. pid 0 is a distractor, -1 is junk. `split` is train, query or gallery; or
    train or test. `box` is "left top right bottom" in pixels, or four columns of these names;
    then every line needs one, and it is clipped to the image. Other columns are ignored.

    Args:
        root: folder of the images and the CSV file.
        file: name of the CSV file.
        train_share: without a column `split`, the fraction of identities to train on; the others
            are tested.
        seed: random seed of that choice; it does not depend on the training's.
        tracklets: rank tracklets instead of images; needs a column `tracklet`. A tracklet is of one
            person in one camera.

    Raises:
        DatasetError: lines are invalid or files are missing; they are listed.
    """
    root = Path(root).expanduser()
    table = read_table(root / file)
    if tracklets and "tracklet" not in table.columns:
        raise DatasetError(f"{table.path}: tracklets=true needs a column tracklet")
    images, people, cameras = _images(root, table)
    parts = np.array(table.column("split")) if "split" in table.columns else None
    if parts is not None:
        check_parts(str(table.path), set(parts.tolist()))
    name = root.resolve().name
    benchmark = make_benchmark(name, images, parts, train_share, seed, tracklets, people, cameras)
    if others := [c for c in table.columns if c not in table.known]:
        note = f"{name}: unknown columns of {file} are ignored: {', '.join(others)}"
        benchmark = replace(benchmark, notes=(*benchmark.notes, note))
    return benchmark


@dataclass(frozen=True)
class CsvTable:
    """The lines of a CSV file.

    Attributes:
        columns: names of the columns.
        lines: number of each line; the header is line 1.
        cells: values of each line.
        known: columns that have a meaning; others are ignored.
    """

    path: Path
    columns: list[str]
    lines: list[int]
    cells: list[list[str]]
    known: tuple[str, ...]

    def column(self, name: str) -> list[str]:
        """Return the values of a column."""
        index = self.columns.index(name)
        return [row[index] for row in self.cells]


def read_table(
    path: Path,
    required: Sequence[str] = REQUIRED,
    optional: Sequence[str] = OPTIONAL,
    fix: str = ROOT_FIX,
) -> CsvTable:
    """Read the file and check its header, and the number and presence of values in each line.

    Args:
        path: path of the file.
        required: columns that it must have.
        optional: columns that it may have; others are ignored.
        fix: advice for a missing file.

    Raises:
        DatasetError: not a CSV file, a missing column, or invalid lines, which are listed.
    """
    try:
        if not path.is_file():  # reading a device or a pipe might never end
            raise DatasetError(f"{path} {no_file(path)}. {fix}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [cell.strip().lower() for cell in next(reader, [])]
            read = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a CSV file in UTF-8: {error}") from error
    rows = [(line, row) for line, row in read if any(row)]
    known = tuple(column for column in columns if column in (*required, *optional))
    table = CsvTable(path, columns, [line for line, _ in rows], [row for _, row in rows], known)
    _check_header(table, required, optional)
    problems = list(_invalid_lines(table))
    expected = f"Expected {len(columns)} values a line: {', '.join(columns)}"
    may_miss = [column for column in known if column in optional]
    if may_miss and any("is empty" in problem for problem in problems):
        expected += f". Fill them, or leave the column out: {', '.join(may_miss)} may be missing"
    raise_problems(path, problems, expected)
    return table


def _check_header(table: CsvTable, required: Sequence[str], optional: Sequence[str]) -> None:
    if not table.columns:
        named = ", ".join([*required, *optional])
        raise DatasetError(
            f"{table.path}, line 1 is empty. Expected the names of columns, such as {named}"
        )
    missing = [column for column in required if column not in table.columns]
    sides = [side for side in SIDES if side in table.columns]
    if sides and len(sides) < len(SIDES):
        missing += [side for side in SIDES if side not in sides]
    if missing:
        others = ", ".join(column for column in optional if column not in SIDES)
        more = f"{others} (or {', '.join(SIDES)})" if others else "any others"
        raise DatasetError(
            f"{table.path}, line 1: no column {', '.join(missing)}; the header is "
            f"{','.join(table.columns)!r}. Expected, separated by commas, "
            f"{', '.join(required) or 'columns'}; optional: {more}"
        )
    known = table.known
    repeated = sorted({column for column in known if known.count(column) > 1})
    repeated += ["box beside left, top, right, bottom"] * ("box" in known and bool(sides))
    if repeated:
        raise DatasetError(f"{table.path}, line 1: given twice: {', '.join(repeated)}. Keep one")
    if not table.cells:
        raise DatasetError(f"{table.path} has a header but no lines below it")


def _invalid_lines(table: CsvTable) -> Iterator[str]:
    """Yield errors: lines of another length, with empty values, or of an unknown split."""
    known = [i for i, column in enumerate(table.columns) if column in table.known]
    split = table.columns.index("split") if "split" in table.known else None
    for line, row in zip(table.lines, table.cells, strict=True):
        if len(row) != len(table.columns):
            yield f"line {line}: {len(row)} values (quote those with a comma in them)"
        elif empty := [table.columns[i] for i in known if not row[i]]:
            yield f"line {line}: {', '.join(empty)} is empty"
        elif split is not None and row[split] not in PARTS:
            yield f"line {line}: split is {row[split]!r}; allowed: {', '.join(PARTS)}"


def _images(root: Path, table: CsvTable) -> tuple[Split, Names, Names]:
    """Check all values and files; return the split, and the names of people and cameras."""
    names = _paths(root, table)
    boxes = read_boxes(table)
    pids, people = number_people(table.column("pid"))
    camids, cameras = number_labels(table.column("camid"))
    low = [f"line {table.lines[i]}: pid {pids[i]}" for i in np.flatnonzero(pids < JUNK)]
    raise_problems(table.path, low, "Expected 1 and above; 0 is a distractor, -1 is junk")
    keys = names if boxes is None else list(zip(names, boxes, strict=True))
    raise_problems(
        table.path, _repeated(keys, table.lines), "Expected each image (and box) once: remove one"
    )
    tracks = np.zeros_like(pids)
    if "tracklet" in table.columns:  # one number for each (pid, camid, label)
        labels = np.stack([pids, camids, number_labels(table.column("tracklet"))[0]])
        tracks = np.unique(labels, axis=1, return_inverse=True)[1].reshape(-1) + 1
    rows = zip(names, pids.tolist(), camids.tolist(), tracks.tolist(), strict=True)
    split = Split.of(root, list(rows))
    if boxes is not None:
        split = replace(split, boxes=np.array(boxes, np.int32))
    return split, people, cameras


def _paths(root: Path, table: CsvTable) -> list[str]:
    """Return the normalised paths relative to `root`; raise if one is outside or not a file."""
    base, names, outside, missing = Path(os.path.normpath(root.absolute())), [], [], []
    for line, text in zip(table.lines, table.column("path"), strict=True):
        path = Path(os.path.normpath(base / text))
        if not path.is_relative_to(base):
            outside.append(f"line {line}: {text}")
            continue
        names.append(path.relative_to(base).as_posix())
        if not path.is_file():
            missing.append(f"line {line}: {text}" + " (a folder)" * path.is_dir())
    raise_problems(
        table.path, outside, f"Expected paths below {root}: set dataset.root to a folder of all"
    )
    fix = f"Expected a file of that name below {root}: correct path or root"
    if any("\\" in line for line in missing):
        fix += ". Folders are separated by / on this system: replace the backslashes in the file"
    raise_problems(table.path, missing, fix)
    return names


def read_boxes(table: CsvTable) -> list[Box] | None:
    """Return the box of each line; None if the table has no boxes.

    Raises:
        DatasetError: boxes are invalid; they are listed.
    """
    if "box" in table.columns:
        texts = table.column("box")
    elif SIDES[0] in table.columns:
        columns = [table.column(side) for side in SIDES]
        texts = [" ".join(sides) for sides in zip(*columns, strict=True)]
    else:
        return None
    boxes, invalid = [], []
    for line, text in zip(table.lines, texts, strict=True):
        box = _box(text)
        boxes.append(box or (0, 0, 0, 0))
        if box is None:
            invalid.append(f"line {line}: box {text!r}")
    fix = (
        "Expected four numbers, left top right bottom in pixels (not left top width height), with "
        "left < right and top < bottom when rounded"
    )
    raise_problems(table.path, invalid, fix)
    return boxes


def _box(text: str) -> Box | None:
    """Parse a box, rounding fractions of pixels; None if it is invalid."""
    try:
        left, top, right, bottom = (round(float(side)) for side in text.split())
    except (ValueError, OverflowError):
        return None
    valid = -(2**31) <= left < right < 2**31 and -(2**31) <= top < bottom < 2**31
    return (left, top, right, bottom) if valid else None


def _repeated(keys: list[str] | list[tuple[str, Box]], lines: list[int]) -> list[str]:
    first: dict[object, int] = {}
    return [
        f"line {line}: {key} repeats line {first[key]}"
        for key, line in zip(keys, lines, strict=True)
        if first.setdefault(key, line) != line
    ]
