"""Your own images, listed in a CSV file: one image, or one box in an image, a line."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
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
from reid_lab.dataset.records import JUNK, Benchmark, Box, DatasetError, Split
from reid_lab.types import Fraction, Seed

NEEDED = ("path", "pid", "camid")
SIDES = ("left", "top", "right", "bottom")
OPTIONAL = ("split", "tracklet", "box", *SIDES)
PARTS = ("train", "query", "gallery", "test")
EXAMPLE = "path,pid,camid\n    a/1.jpg,anna,door-3"


def read_csv(
    root: Path | str,
    file: str = "images.csv",
    train_share: Fraction = 0.5,
    seed: Seed = 0,
    tracklets: bool = False,
) -> Benchmark:
    """A CSV file (UTF-8, with a header): path, pid, camid; split, tracklet and box if you like.

    `path` is relative to `root`. `pid` and `camid` are any text, numbered in sorted order from
    1; where all are whole numbers (`7` or, as pandas writes it, `7.0`) of up to 18 digits, they
    keep their values. pid 0 is a distractor, -1 is junk. `split` is train, query or gallery; or
    train or test. `box` is "left top right bottom" in pixels, or four columns of these names;
    every line has one then, and what of it is outside of the image is cut off. Other columns are
    ignored.

    Args:
        train_share: of the identities, if there is no column `split`; the others are tested.
        seed: who trains then.
        tracklets: rank tracklets instead of images. A tracklet is of one person in one camera.

    Raises:
        DatasetError: naming the lines that are wrong, or files that are not there.
    """
    root = Path(root).expanduser()
    table = _table(root / file)
    if tracklets and "tracklet" not in table.columns:
        raise DatasetError(f"{table.path}: tracklets=true needs a column tracklet")
    images, people, cameras = _images(root, table)
    parts = np.array(table.column("split")) if "split" in table.columns else None
    if parts is not None:
        check_parts(str(table.path), set(parts.tolist()))
    name = root.resolve().name
    benchmark = make_benchmark(name, images, parts, train_share, seed, tracklets, people, cameras)
    if others := [c for c in table.columns if c not in (*NEEDED, *OPTIONAL)]:
        note = f"{name}: columns of {file} that mean nothing here: {', '.join(others)}"
        benchmark = replace(benchmark, notes=(*benchmark.notes, note))
    return benchmark


@dataclass(frozen=True)
class CsvTable:
    """Lines of a file: their numbers (a header is line 1) and their values by column."""

    path: Path
    columns: list[str]
    lines: list[int]
    cells: list[list[str]]

    def column(self, name: str) -> list[str]:
        place = self.columns.index(name)
        return [row[place] for row in self.cells]


def _table(path: Path) -> CsvTable:
    """The file, as long as the header; every value that must be there is."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [cell.strip().lower() for cell in next(reader, [])]
            read = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path} does not exist. Set dataset.root to its folder and dataset.reader.file to "
            f"its name. It looks like\n    {EXAMPLE}"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is no CSV file in UTF-8: {error}") from error
    rows = [(line, row) for line, row in read if any(row)]
    table = CsvTable(path, columns, [line for line, _ in rows], [row for _, row in rows])
    _check_header(table)
    raise_problems(
        path, list(_unfit(table)), f"Expected {len(columns)} values a line: {', '.join(columns)}"
    )
    return table


def _check_header(table: CsvTable) -> None:
    missing = [column for column in NEEDED if column not in table.columns]
    sides = [side for side in SIDES if side in table.columns]
    if sides and len(sides) < len(SIDES):
        missing += [side for side in SIDES if side not in sides]
    if missing:
        raise DatasetError(
            f"{table.path}, line 1: no column {', '.join(missing)}; the header is "
            f"{','.join(table.columns)!r}. Expected, separated by commas, {', '.join(NEEDED)}; "
            "allowed besides: split, tracklet, box (or left, top, right, bottom)"
        )
    known = [column for column in table.columns if column in (*NEEDED, *OPTIONAL)]
    twice = sorted({column for column in known if known.count(column) > 1})
    twice += ["box beside left, top, right, bottom"] * ("box" in known and bool(sides))
    if twice:
        raise DatasetError(f"{table.path}, line 1: given twice: {', '.join(twice)}. Keep one")
    if not table.cells:
        raise DatasetError(f"{table.path} has a header and no lines below it")


def _unfit(table: CsvTable) -> Iterator[str]:
    """Lines of another length, with empty values, or of an unknown split."""
    known = [i for i, column in enumerate(table.columns) if column in (*NEEDED, *OPTIONAL)]
    split = table.columns.index("split") if "split" in table.columns else None
    for line, row in zip(table.lines, table.cells, strict=True):
        if len(row) != len(table.columns):
            yield f"line {line}: {len(row)} values (one with a comma in it stands in quotes)"
        elif empty := [table.columns[i] for i in known if not row[i]]:
            yield f"line {line}: {', '.join(empty)} is empty"
        elif split is not None and row[split] not in PARTS:
            yield f"line {line}: split is {row[split]!r}; allowed: {', '.join(PARTS)}"


def _images(root: Path, table: CsvTable) -> tuple[Split, Names, Names]:
    """The lines as a split, once all their values and files are in order; people and cameras."""
    names = _names(root, table)
    boxes = _boxes(table)
    pids, people = number_people(table.column("pid"))
    camids, cameras = number_labels(table.column("camid"))
    low = [f"line {table.lines[i]}: pid {pids[i]}" for i in np.flatnonzero(pids < JUNK)]
    raise_problems(table.path, low, "Expected 1 and above; 0 is a distractor, -1 is junk")
    keys = names if boxes is None else list(zip(names, boxes, strict=True))
    raise_problems(
        table.path, _repeated(keys, table.lines), "Expected each image (and box) once: remove one"
    )
    tracks = np.zeros_like(pids)
    if "tracklet" in table.columns:  # a number of its own for each, whatever they are called
        labels = np.stack([pids, camids, number_labels(table.column("tracklet"))[0]])
        tracks = np.unique(labels, axis=1, return_inverse=True)[1].reshape(-1) + 1
    rows = zip(names, pids.tolist(), camids.tolist(), tracks.tolist(), strict=True)
    split = Split.of(root, list(rows))
    if boxes is not None:
        split = replace(split, boxes=np.array(boxes, np.int32))
    return split, people, cameras


def _names(root: Path, table: CsvTable) -> list[str]:
    """Paths below `root`, in one spelling; that of a file each."""
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
        fix += ". Here folders are separated by / and not by a backslash: replace these in the file"
    raise_problems(table.path, missing, fix)
    return names


def _boxes(table: CsvTable) -> list[Box] | None:
    if "box" in table.columns:
        texts = table.column("box")
    elif SIDES[0] in table.columns:
        columns = [table.column(side) for side in SIDES]
        texts = [" ".join(sides) for sides in zip(*columns, strict=True)]
    else:
        return None
    boxes, wrong = [], []
    for line, text in zip(table.lines, texts, strict=True):
        box = _box(text)
        boxes.append(box or (0, 0, 0, 0))
        if box is None:
            wrong.append(f"line {line}: box {text!r}")
    fix = (
        "Expected four numbers, left top right bottom in pixels (not left top width height), with "
        "left < right and top < bottom when rounded"
    )
    raise_problems(table.path, wrong, fix)
    return boxes


def _box(text: str) -> Box | None:
    """Detectors write fractions of pixels: they are rounded."""
    try:
        left, top, right, bottom = (round(float(side)) for side in text.split())
    except (ValueError, OverflowError):
        return None
    fits = -(2**31) <= left < right < 2**31 and -(2**31) <= top < bottom < 2**31
    return (left, top, right, bottom) if fits else None


def _repeated(keys: list[str] | list[tuple[str, Box]], lines: list[int]) -> list[str]:
    first: dict[object, int] = {}
    return [
        f"line {line}: {key} is line {first[key]} already"
        for key, line in zip(keys, lines, strict=True)
        if first.setdefault(key, line) != line
    ]
