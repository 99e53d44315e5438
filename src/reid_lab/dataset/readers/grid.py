"""QMUL-GRID (Loy, Xiang and Gong, CVPR 2009): 250 people in an underground station, 8 cameras.

root/probe and root/gallery hold one image of each person, the gallery also 775 of other people,
with pid 0; `0001_1_25004_107_32_106_221.jpeg` gives pid, camera, frame and box.
root/features_and_partitions.mat has the ten published splits, 125 people to train on and 125 to
find.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.checks import check_split, expecting, match_names, read_mat
from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import DISTRACTOR, Benchmark, DatasetError, Split
from reid_lab.protocol import Protocol
from reid_lab.types import NonNegativeInt

PARTITIONS = "features_and_partitions.mat"
NAME = re.compile(r"^(\d{4})_(\d{1,18})_.*\.\w+$")
EXAMPLE = "0001_1_25004_107_32_106_221.jpeg"
# every query sees all 900 images: to hide its camera's would take distractors away
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
    """One of the published splits; the probe images ask, and all distractors stay in the gallery.

    Args:
        split: which of the ten, 0 to 9.

    Raises:
        DatasetError: a missing folder or file, an unknown split, or a .mat that does not belong
            to the images.
    """
    root = Path(root).expanduser()
    layout = [f"probe/{EXAMPLE} ...", "gallery/0000_1_25004_... ...", PARTITIONS]
    require("grid", root, ["probe", "gallery", PARTITIONS], layout)
    people = _training_people(root / PARTITIONS, split)
    probe, gallery = (_folder(root, folder) for folder in ("probe", "gallery"))
    unknown = sorted(set(people.tolist()) - set(probe.identities.tolist()))
    if unknown:
        raise DatasetError(
            f"{root / PARTITIONS}: split {split} trains on persons {unknown[:5]}, who have no "
            f"image in {root / 'probe'}: extract the release anew"
        )
    trains = [np.isin(part.pids, people) for part in (probe, gallery)]
    train = Split.concatenate(probe.take(trains[0]), gallery.take(trains[1]))
    asks = ~trains[0] & (probe.pids > DISTRACTOR)
    query, gallery = probe.take(asks), gallery.take(~trains[1])
    benchmark = Benchmark(f"grid_{split}", train, query, gallery, protocol=PROTOCOL)
    return compared(benchmark, PUBLISHED)


def _folder(root: Path, folder: str) -> Split:
    found = match_names(root / folder, NAME, EXAMPLE)
    return Split.of(root, [(f"{folder}/{m[0]}", int(m[1]), int(m[2]), 0) for m in found])


def _training_people(path: Path, split: int) -> np.ndarray:
    """(125,) pids: `personIdx` of the split's struct in the cell array `trainIdxAll`."""
    splits = read_mat(path, "trainIdxAll")["trainIdxAll"].ravel()
    check_split("grid", split, len(splits))
    fields = splits[split].dtype.names or ()
    if "personIdx" not in fields:
        raise DatasetError(
            f"{path}: trainIdxAll{{{split + 1}}} has {', '.join(fields) or 'no fields'} and not "
            "personIdx: extract the release anew"
        )
    with expecting(path, "personIdx to be numbers"):
        return np.asarray(splits[split]["personIdx"].item()).ravel().astype(np.int64)
