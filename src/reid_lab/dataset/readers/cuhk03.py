"""CUHK03 (Li et al., CVPR 2014) as first released: root/cuhk-03.mat, five pairs of cameras.

1,467 people, 14,097 detected and 14,096 labeled boxes. Some papers count the first three pairs
only: 1,360 people and 13,164 detected boxes. So JLML gives two numbers of training identities for
the old protocol: 1,367 (table 2) = 1,467 - 100, and 1,260 (section 3) = 1,360 - 100.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from reid_lab.dataset.readers.checks import check_split, expecting, match_names, read_mat
from reid_lab.dataset.readers.cuhk03_mat import PersonKey, read_test_set, unpack
from reid_lab.dataset.readers.cuhk03_np import PUBLISHED as PUBLISHED_NEW
from reid_lab.dataset.readers.cuhk03_np import Boxes
from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.readers.viper import Directions
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.files.regular import no_file
from reid_lab.protocol import SINGLE_SHOT
from reid_lab.types import RUNNING, NonNegativeInt

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
    cache_dir: Annotated[Path | str, RUNNING],
    boxes: Boxes = "detected",
    protocol: Literal["new", "old"] = "new",
    split: NonNegativeInt = 0,
    split_files: Path | str | None = None,
    directions: Directions = "one",
) -> Benchmark:
    """Read cuhk-03.mat; its images are unpacked once into `cache_dir`, as PNG.

    People are numbered across the pairs from 1, as in the new protocol's labels and in CUHK03-NP.

    Args:
        root: folder of cuhk-03.mat.
        cache_dir: folder for the unpacked images.
        boxes: boxes of a detector, or labeled by hand.
        protocol: `new` is that of Zhong et al. (CVPR 2017): 767 people for training, 700 for test;
            cameras 1 and 2 are the views of each pair. `old` is that of Li et al., single-shot: the
            100 people of a test set; queries are all images of their first view, the gallery is one
            image of each person from the second view (the mean of random trials). The other 1,367
            people are for training, and each pair's two views are separate cameras. Papers report
            means over the 20 test sets.
        split: test set of the old protocol, 0 to 19.
        split_files: folder of the new protocol's cuhk03_new_protocol_config_*.mat; None: `root`.
        directions: directions of the old protocol. `one`, as above; `both` also ranks the first
            views for the images of the second, and averages over all queries, as torchreid does.
            Its galleries draw the other people from either view, ours from the other view only.

    Raises:
        DatasetError: a file is missing or unreadable, the split is unknown, or it names images or
            people that are not in cuhk-03.mat.
    """
    root, cache = Path(root).expanduser(), Path(cache_dir).expanduser()
    require("cuhk03", root, [MAT], [MAT])
    if protocol == "old":
        people = read_test_set(root / MAT, split)
        return _old(unpack(root / MAT, boxes, cache), boxes, split, people, directions)
    if directions != "one":
        raise DatasetError(
            "cuhk03: dataset.reader.directions=both is of the old protocol: set "
            "dataset.reader.protocol=old, or directions=one"
        )
    check_split("cuhk03, new protocol", split, 1)
    names = _new_names(Path(split_files).expanduser() if split_files else root, boxes)
    return _new(unpack(root / MAT, boxes, cache), boxes, names)


def _new(folder: Path, boxes: Boxes, names: dict[str, list[str]]) -> Benchmark:
    images, people, views = _images(folder)
    index_of = {name.decode(): index for index, name in enumerate(images.names)}
    missing = sorted({name for part in names.values() for name in part} - set(index_of))
    if missing:
        raise DatasetError(
            f"cuhk03: the new protocol's {boxes} split names {len(missing):,} images that are not "
            f"in {MAT}, the first is {missing[0]}: use {MAT} and the split files of the release "
            f"(or, if images were removed from {folder}, delete that folder)"
        )
    images = Split(folder, images.names, images.pids, views, images.tracks)
    train, query, gallery = (images.take(np.array([index_of[n] for n in names[p]])) for p in PARTS)
    benchmark = Benchmark(f"cuhk03_new_{boxes}", train, query, gallery)
    return compared(benchmark, PUBLISHED_NEW[boxes])


def _old(
    folder: Path, boxes: Boxes, split: int, test_people: set[PersonKey], directions: Directions
) -> Benchmark:
    images, people, views = _images(folder)
    unknown = sorted(test_people - set(people))
    if unknown:
        pair, person = unknown[0]
        raise DatasetError(
            f"cuhk03: test set {split} has {len(unknown)} people without a {boxes} image, the "
            f"first is person {person} of pair {pair}: this is not the {MAT} of the release"
        )
    is_test = np.array([person in test_people for person in people])
    train, query, gallery = (
        images.take(part) for part in (~is_test, is_test & (views == 1), is_test & (views == 2))
    )
    name = f"cuhk03_old_{boxes}_{split}"
    if directions == "both":  # the views of all pairs are two cameras: a query's own view is hidden
        of_views = replace(images, camids=views)
        query = gallery = of_views.take(is_test)
        name += "_both"
    return compared(Benchmark(name, train, query, gallery, protocol=SINGLE_SHOT), PUBLISHED_OLD)


def _images(folder: Path) -> tuple[Split, list[PersonKey], np.ndarray]:
    """List all images, each view of each pair a camera; also return people and views, (N,)."""
    matches = list(match_names(folder, NAME, "1_001_1_01.png"))
    people = [(int(m[1]), int(m[2])) for m in matches]
    views = np.array([int(m[3]) for m in matches])
    pids = {person: pid for pid, person in enumerate(sorted(set(people)), 1)}
    rows = [
        (m[0], pids[pair, person], 2 * (pair - 1) + int(m[3]), 0)
        for m, (pair, person) in zip(matches, people, strict=True)
    ]
    return Split.of(folder, rows), people, views


def _new_names(folder: Path, boxes: Boxes) -> dict[str, list[str]]:
    """Read the file names of train, query and gallery from the new protocol's MATLAB file (v5)."""
    path = folder / f"cuhk03_new_protocol_config_{boxes}.mat"
    if not path.is_file():
        raise DatasetError(
            f"cuhk03: {path} {no_file(path)}. It holds the new protocol's split: set its folder, "
            "dataset.reader.split_files, or use dataset.reader.protocol=old, whose test sets are "
            f"in {MAT}"
        )
    mat = read_mat(path, "filelist", *(f"{part}_idx" for part in PARTS))
    with expecting(path, "a list of names and positions in it"):
        files = [str(cell.item()) for cell in mat["filelist"].ravel()]
        indices = {part: mat[f"{part}_idx"].ravel().astype(np.int64) for part in PARTS}
    names = {}
    for part, numbers in indices.items():
        if not len(numbers) or not 1 <= numbers.min() <= numbers.max() <= len(files):
            raise DatasetError(
                f"{path}: {part}_idx is not within filelist, 1 to {len(files)}: download it again"
            )
        names[part] = [files[number - 1] for number in numbers]
    return names
