"""ATRW (Li et al., ACM MM 2020): Amur tigers, an identity being one side of a tiger.

The owners' archives extract to root/atrw_reid_train/train, root/atrw_anno_reid_train,
root/atrw_reid_test/test; their ATRWEvalScript has annotations/gt_test_plain.json. The same files
directly in root (train, test, reid_list_train.csv, gt_test_plain.json) are read, too.

The plain track: boxes are cropped. Each test image has an identity, a frame (scene, camera, number)
and a query group: `multi`, of identities seen by several cameras, or `sing`, of one camera.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.files import image_names, require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.files.stored import StoredFileError, read_text

TRAIN = ("atrw_reid_train/train", "train")
LIST = ("atrw_anno_reid_train/reid_list_train.csv", "reid_list_train.csv")
TEST = ("atrw_reid_test/test", "test")
TRUTH = (
    "ATRWEvalScript/annotations/gt_test_plain.json",
    "ATRWEvalScript-main/annotations/gt_test_plain.json",
    "eval_script/ATRWEvalScript-main/annotations/gt_test_plain.json",
    "gt_test_plain.json",
)
QUERIES = "multi"  # queries of identities that several cameras saw
UNKNOWN_CAMERA = 0  # camid of the training images
CAMERAS = 1000  # more than a scene has
NUMBER = re.compile("[0-9]{1,18}")  # fits into int64
MAX_LIST = 16 * 2**20  # bytes

PUBLISHED = PublishedCounts(
    "the release's lists",
    {
        "train": {"images": 1887, "pids": 107},
        "query": {"images": 1063, "pids": 28},
        "gallery": {"images": 1764, "pids": 75},
    },
)


def read_atrw(root: Path | str) -> Benchmark:
    """Read ATRW's plain track: 107 training and 75 test identities.

    The queries are the 1,063 images of the 28 identities that several cameras saw, ranked against
    all 1,764 test images. Images of the query's identity from its camera are hidden. The owners
    hide those within 3 frames only, which is easier. Pids are the release's + 1.

    Raises:
        DatasetError: a folder or file is missing or malformed, or an image is not listed.
    """
    root = Path(root).expanduser()
    train, listed, test, truth = (_there(root, paths) for paths in (TRAIN, LIST, TEST, TRUTH))
    layout = [
        f"{train}/000001.jpg ...",
        f"{listed}: 12,000001.jpg ...",
        f"{test}/000000.jpg ...",
        f"{truth}, from the owners' ATRWEvalScript",
    ]
    require("atrw", root, [train, listed, test, truth], layout)
    images, queries, cameras = _test(root, test, truth)
    benchmark = Benchmark(
        "atrw", _train(root, train, listed), images.take(queries), images, cameras=cameras
    )
    return compared(benchmark, PUBLISHED)


def _there(root: Path, paths: tuple[str, ...]) -> str:
    """The first of `paths` that exists; `paths[0]`, for the error message, if none does."""
    return next((path for path in paths if (root / path).exists()), paths[0])


def _train(root: Path, folder: str, listed: str) -> Split:
    """Read the images of the list; the others of the folder have no identity."""
    path = root / listed
    try:
        lines = read_text(path, MAX_LIST).splitlines()
    except StoredFileError as error:
        raise DatasetError(f"{error}: download the release's file") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        pid, _, name = map(str.strip, line.partition(","))
        if not NUMBER.fullmatch(pid) or not name or "/" in name:
            raise DatasetError(
                f"{path}, line {number}: {line!r} is not IDENTITY,NAME, as in 12,000001.jpg: "
                "download the release's file"
            )
        rows.append((f"{folder}/{name}", int(pid) + 1, UNKNOWN_CAMERA, 0))
    if not rows:
        raise DatasetError(f"{path} is empty: download the release's file")
    return Split.of(root, rows)


def _test(root: Path, folder: str, truth: str) -> tuple[Split, np.ndarray, dict[int, str]]:
    """Read the test images, (N,) which of them are queries, and camid -> scene and camera."""
    known = _truth(root / truth)
    rows, queries, cameras = [], [], {}
    for name in image_names(root / folder):
        stem = name.rpartition(".")[0]
        image = int(stem) if NUMBER.fullmatch(stem) else -1
        if image not in known:
            raise DatasetError(
                f"{root / folder}: {name!r} is not in {root / truth}: use images and annotations "
                "of one release"
            )
        pid, scene, camera, query = known.pop(image)
        camid = CAMERAS * scene + camera
        cameras[camid] = f"scene {scene}, camera {camera}"
        rows.append((f"{folder}/{name}", pid + 1, camid, 0))
        queries.append(query == QUERIES)
    return Split.of(root, rows), np.array(queries, dtype=bool), cameras


def _truth(path: Path) -> dict[int, tuple[int, int, int, str]]:
    """Read image -> (identity, scene, camera, query group)."""
    try:
        found = {}
        for row in json.loads(read_text(path, MAX_LIST)):
            scene, camera, _ = row["frame"]
            numbers = [row["imgid"], row["entityid"], scene, camera]
            if not all(type(n) is int and 0 <= n < 10**9 for n in numbers) or camera >= CAMERAS:
                raise ValueError(f"{numbers} are not numbers from 0")
            found[numbers[0]] = (*numbers[1:], str(row["query"]))
    except (StoredFileError, LookupError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path}: expected a list of imgid, entityid, frame (scene, camera, number) and "
            f"query, found something else ({error}): use the owners' gt_test_plain.json"
        ) from error
    return found
