"""QMUL-GRID (Loy, Xiang and Gong, CVPR 2009): 250 people in an underground station, 8 cameras.

root/probe and root/gallery hold one image of each person, the gallery also 775 of other people,
with pid 0; `0001_1_25004_107_32_106_221.jpeg` is pid, camera, frame and box.
root/features_and_partitions.mat has the ten published splits: 125 training and 125 test
people.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.checks import check_split, expecting, match_names, read_mat
from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.protocol import DISTRACTOR, Protocol
from reid_lab.types import NonNegativeInt

PARTITIONS = "features_and_partitions.mat"
NAME = re.compile(r"^(\d{4})_(\d{1,18})_.*\.\w+$")
EXAMPLE = "0001_1_25004_107_32_106_221.jpeg"
# hide nothing: hiding the query's camera would remove distractors from the 900 gallery images
PROTOCOL = Protocol(hidden="nothing")

PUBLISHED = PublishedCounts(
    "JLML, table 2",
    {
        "train": {"images": 250, "pids": 125},
        "query": {"images": 125, "pids": 125},
        "gallery": {"images": 900, "pids": 125},
    },
)


def read_grid(root: Path | str, split: NonNegativeInt = 0) -> Benchmark:
    """Read one of the published splits: probe images are queries; the gallery has all distractors.

    Args:
        root: folder of the release.
        split: number of the split, 0 to 9.

    Raises:
        DatasetError: a folder or file is missing, the split is unknown, or the .mat names people
            without images.
    """
    root = Path(root).expanduser()
    layout = [f"probe/{EXAMPLE} ...", "gallery/0000_1_25004_... ...", PARTITIONS]
    require("grid", root, ["probe", "gallery", PARTITIONS], layout)
    training_people = _training_people(root / PARTITIONS, split)
    probe, gallery = (_read_folder(root, folder) for folder in ("probe", "gallery"))
    unknown = sorted(set(training_people.tolist()) - set(probe.identities.tolist()))
    if unknown:
        raise DatasetError(
            f"{root / PARTITIONS}: split {split} trains on people {unknown[:5]}, who have no "
            f"image in {root / 'probe'}: extract the release again"
        )
    is_train = [np.isin(part.pids, training_people) for part in (probe, gallery)]
    train = Split.concatenate(probe.take(is_train[0]), gallery.take(is_train[1]))
    is_query = ~is_train[0] & (probe.pids > DISTRACTOR)
    query, gallery = probe.take(is_query), gallery.take(~is_train[1])
    benchmark = Benchmark(f"grid_{split}", train, query, gallery, protocol=PROTOCOL)
    return compared(benchmark, PUBLISHED)


def _read_folder(root: Path, folder: str) -> Split:
    matches = match_names(root / folder, NAME, EXAMPLE)
    return Split.of(root, [(f"{folder}/{m[0]}", int(m[1]), int(m[2]), 0) for m in matches])


def _training_people(path: Path, split: int) -> np.ndarray:
    """Read the (125,) training pids: `personIdx` of the split's struct in `trainIdxAll`.

    It is the third field, after the image indexes of probe and gallery; copies that name it
    differently are read by this position.
    """
    splits = read_mat(path, "trainIdxAll")["trainIdxAll"].ravel()
    check_split("grid", split, len(splits))
    fields: tuple[str, ...] = splits[split].dtype.names or ()
    if "personIdx" not in fields and len(fields) < 3:
        raise DatasetError(
            f"{path}: trainIdxAll{{{split + 1}}} has {', '.join(fields) or 'no fields'}, not "
            "personIdx, nor a third field: extract the release again"
        )
    name = "personIdx" if "personIdx" in fields else fields[2]
    with expecting(path, f"{name} to be numbers"):
        return np.asarray(splits[split][name].item()).ravel().astype(np.int64)
