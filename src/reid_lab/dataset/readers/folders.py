"""Your own images, a folder a person, the camera in an image's name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.files import PICTURE, require
from reid_lab.dataset.readers.own import check_parts, divided, numbered, pids_of, tell
from reid_lab.dataset.records import JUNK, Benchmark, DatasetError, Split
from reid_lab.types import Fraction, Seed

LAYOUT = ("anna/door_c1_001.jpg ...", "train/anna/door_c1_001.jpg, query/..., gallery/...")
PARTS = ("train", "query", "gallery", "test")


def read_folders(
    root: Path | str,
    camera: str | None = r"(?:^|[^A-Za-z0-9])c(\d+)",
    train_share: Fraction = 0.5,
    seed: Seed = 0,
) -> Benchmark:
    """root/<person>/<image>, or root/train/<person>/<image>, root/query/..., root/gallery/...

    Folders `train` and `test` will do, too. People and cameras are numbered in sorted order from
    1; where all are integers, they keep their values. A folder 0 holds distractors, -1 junk.

    Args:
        camera: regular expression with one group, searched in an image's name; the group is the
            camera. None: one camera took all.
        train_share: of the identities, where no folders divide them; the others are tested.
        seed: who trains then.

    Raises:
        DatasetError: no images, folders that do not divide them all, a `camera` that is no such
            expression, or images whose names it does not fit.
    """
    root = Path(root).expanduser()
    pattern = _pattern(camera)
    require("folders", root, ["."], LAYOUT)
    given = [part for part in PARTS if (root / part).is_dir()]
    if given:
        check_parts(str(root), set(given))
        tell(root, _others(root), f"Beside {', '.join(given)} nothing else is read: rename or move")
    rows = [(part, *row) for part in given or [""] for row in _people(root, part)]
    if not rows:
        shown = "\n".join(f"    {root}/{line}" for line in LAYOUT)
        raise DatasetError(f"{root} has no folders with images (jpg, png, bmp). Expected:\n{shown}")
    images = _images(root, rows, pattern)
    parts = np.array([part for part, *_ in rows]) if given else None
    return divided(root.resolve().name, images, parts, train_share, seed)


def _pattern(camera: str | None) -> re.Pattern[str] | None:
    if camera is None:
        return None
    try:
        pattern = re.compile(camera)
    except re.error as error:
        raise DatasetError(
            f"dataset.reader.camera={camera!r} is no regular expression: {error}"
        ) from error
    if pattern.groups != 1:
        raise DatasetError(
            f"dataset.reader.camera={camera!r} has {pattern.groups} groups. Expected one, around "
            r"the camera, as in c(\d+); null where one camera took all"
        )
    return pattern


def _others(root: Path) -> list[str]:
    """Folders with images beside those of the parts: a `val`, or a person who was forgotten."""
    with os.scandir(root) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and e.name not in PARTS)
    shown = (name for name in names if not name.startswith("."))
    return [
        f"folder {name} holds images"
        for name in shown
        if any(PICTURE.search(file) for *_, files in os.walk(root / name) for file in files)
    ]


def _people(root: Path, part: str) -> list[tuple[str, str]]:
    """(person, name relative to root) of the images in the folders of root/part."""
    with os.scandir(root / part) as entries:
        people = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    rows = []
    for person in people:
        with os.scandir(root / part / person) as entries:
            names = sorted(entry.name for entry in entries if PICTURE.search(entry.name))
        rows += [(person, "/".join(filter(None, (part, person, name)))) for name in names]
    return rows


def _images(root: Path, rows: list[tuple[str, str, str]], pattern: re.Pattern[str] | None) -> Split:
    names = [name for _, _, name in rows]
    pids = pids_of([person for _, person, _ in rows])
    low = sorted({f"folder {rows[i][1]}" for i in np.flatnonzero(pids < JUNK)})
    tell(root, low, "Expected 1 and above; 0 holds distractors, -1 junk")
    cameras, unfit = [], []
    for name in names:
        match = pattern and pattern.search(name.rpartition("/")[2])
        cameras.append("1" if pattern is None else match and match[1])
        if not cameras[-1]:
            unfit.append(name)
    if pattern is not None:
        fix = f"Expected names in which dataset.reader.camera={pattern.pattern!r} finds the camera"
        tell(root, unfit, f"{fix}: rename them, or give another expression (null: one camera)")
    camids = numbered([camera for camera in cameras if camera])
    triples = zip(names, pids.tolist(), camids.tolist(), strict=True)
    return Split.of(root, [(name, pid, camid, 0) for name, pid, camid in triples])
