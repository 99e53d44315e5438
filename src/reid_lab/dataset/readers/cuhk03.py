"""CUHK03 (Li et al., CVPR 2014) as first released: root/cuhk-03.mat, five pairs of cameras.

1,467 people, 14,097 detected and 14,096 labeled boxes. The first three pairs alone are the 1,360
people and 13,164 detected boxes that papers also count; so of the training identities that JLML
gives for the old protocol, 1,367 (table 2) are the release's 1,467 - 100, and 1,260 (section 3)
are 1,360 - 100.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from reid_lab.dataset.readers.checks import check_split, expecting, match_names, read_mat
from reid_lab.dataset.readers.cuhk03_mat import PersonKey, read_test_set, unpacked
from reid_lab.dataset.readers.cuhk03_np import PUBLISHED as PUBLISHED_NEW
from reid_lab.dataset.readers.cuhk03_np import Boxes
from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.protocol import SINGLE_SHOT
from reid_lab.types import NonNegativeInt

MAT = "cuhk-03.mat"
NAME = re.compile(r"^(\d)_(\d{3})_([12])_\d\d\.png$")
PARTS = ("train", "query", "gallery")
ONE_VIEW = "person 68 of pair 3, who has no labeled box in view 1"
PUBLISHED_OLD = PublishedCounts(
    "JLML, table 2",
    {"train": {"pids": 1367}, "query": {"pids": 100}, "gallery": {"pids": 100}},
    {("query", "pids", 99): ONE_VIEW},
)


def read_cuhk03(
    root: Path | str,
    cache_dir: Path | str,
    boxes: Boxes = "detected",
    protocol: Literal["new", "old"] = "new",
    split: NonNegativeInt = 0,
    split_files: Path | str | None = None,
) -> Benchmark:
    """Read cuhk-03.mat; its images are unpacked once into `cache_dir`, as PNG.

    People are numbered over the pairs, from 1, as the new protocol's labels and CUHK03-NP do.

    Args:
        protocol: `new` is Zhong et al.'s (CVPR 2017): 767 people train, 700 are found; cameras 1
            and 2 are a pair's views. `old` is Li et al.'s, single-shot: a test set's 100 people
            are asked for by each image of their first view among one image each of their second
            (the mean of the protocol's trials); the other 1,367 train; each pair's views are
            cameras of their own. Papers report means over the 20 test sets.
        split: the old protocol's test set, 0 to 19.
        split_files: folder of the new protocol's cuhk03_new_protocol_config_*.mat; None: root.

    Raises:
        DatasetError: a missing or unreadable file, an unknown split, or a split that names
            images or people that cuhk-03.mat does not have.
    """
    root, cache = Path(root).expanduser(), Path(cache_dir).expanduser()
    require("cuhk03", root, [MAT], [MAT])
    if protocol == "old":
        people = read_test_set(root / MAT, split)
        return _old(unpacked(root / MAT, boxes, cache), boxes, split, people)
    check_split("cuhk03, new protocol", split, 1)
    names = _new_names(Path(split_files).expanduser() if split_files else root, boxes)
    return _new(unpacked(root / MAT, boxes, cache), boxes, names)


def _new(folder: Path, boxes: Boxes, names: dict[str, list[str]]) -> Benchmark:
    images, people, views = _images(folder)
    place = {name.decode(): index for index, name in enumerate(images.names)}
    absent = sorted({name for part in names.values() for name in part} - set(place))
    if absent:
        raise DatasetError(
            f"cuhk03: the new protocol's {boxes} split names {len(absent):,} images that are not "
            f"in {MAT}, the first is {absent[0]}: give the release's {MAT} and its own split "
            f"files (or, if images were removed from {folder}, delete that folder)"
        )
    images = Split(folder, images.names, images.pids, views, images.tracks)
    train, query, gallery = (images.take(np.array([place[n] for n in names[p]])) for p in PARTS)
    benchmark = Benchmark(f"cuhk03_new_{boxes}", train, query, gallery)
    return compared(benchmark, PUBLISHED_NEW[boxes])


def _old(folder: Path, boxes: Boxes, split: int, asked: set[PersonKey]) -> Benchmark:
    images, people, views = _images(folder)
    unknown = sorted(asked - set(people))
    if unknown:
        pair, person = unknown[0]
        raise DatasetError(
            f"cuhk03: test set {split} has {len(unknown)} people without a {boxes} image, the "
            f"first is person {person} of pair {pair}: this is no {MAT} as released"
        )
    tests = np.array([person in asked for person in people])
    train, query, gallery = (
        images.take(part) for part in (~tests, tests & (views == 1), tests & (views == 2))
    )
    name = f"cuhk03_old_{boxes}_{split}"
    return compared(Benchmark(name, train, query, gallery, protocol=SINGLE_SHOT), PUBLISHED_OLD)


def _images(folder: Path) -> tuple[Split, list[PersonKey], np.ndarray]:
    """All images with a camera for each view of each pair; the (N,) people and views in them."""
    found = list(match_names(folder, NAME, "1_001_1_01.png"))
    people = [(int(m[1]), int(m[2])) for m in found]
    views = np.array([int(m[3]) for m in found])
    pids = {person: pid for pid, person in enumerate(sorted(set(people)), 1)}
    rows = [
        (m[0], pids[pair, person], 2 * (pair - 1) + int(m[3]), 0)
        for m, (pair, person) in zip(found, people, strict=True)
    ]
    return Split.of(folder, rows), people, views


def _new_names(folder: Path, boxes: Boxes) -> dict[str, list[str]]:
    """The file names of train, query and gallery, from the protocol's own file (MATLAB v5)."""
    path = folder / f"cuhk03_new_protocol_config_{boxes}.mat"
    if not path.is_file():
        raise DatasetError(
            f"cuhk03: {path} does not exist. It is the new protocol's split: give its folder as "
            f"dataset.reader.split_files, or use dataset.reader.protocol=old, whose test sets "
            f"are in {MAT}"
        )
    mat = read_mat(path, "filelist", *(f"{part}_idx" for part in PARTS))
    with expecting(path, "a list of names, and numbers in it"):
        files = [str(cell.item()) for cell in mat["filelist"].ravel()]
        indices = {part: mat[f"{part}_idx"].ravel().astype(np.int64) for part in PARTS}
    names = {}
    for part, numbers in indices.items():
        if not len(numbers) or not 1 <= numbers.min() <= numbers.max() <= len(files):
            raise DatasetError(
                f"{path}: {part}_idx is not within filelist, 1 to {len(files)}: get the file anew"
            )
        names[part] = [files[number - 1] for number in numbers]
    return names
