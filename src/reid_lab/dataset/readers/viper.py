"""VIPeR (Gray, Brennan and Tao, PETS 2007): 632 people, one image from each of two cameras.

root/cam_a/000_45.bmp and root/cam_b/000_90.bmp: person (from 0) and viewing angle in degrees.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from reid_lab.dataset.readers.checks import check_split, match_names
from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.protocol import Protocol
from reid_lab.types import NonNegativeInt, Seed

Directions = Literal["one", "both"]

SPLITS = 10
CAMERAS = {"cam_a": 1, "cam_b": 2}
NAME = re.compile(r"^(\d{1,17})_\d+\.\w+$")
PROTOCOL = Protocol(hidden="same_camera")  # one gallery image per person: no random gallery

_TRAIN = {"images": 632, "pids": 316, "cameras": 2}
_ONE = {"images": 316, "pids": 316, "cameras": 1}
_BOTH = {"images": 632, "pids": 316, "cameras": 2}
PUBLISHED = {
    "one": PublishedCounts("JLML, table 2", {"train": _TRAIN, "query": _ONE, "gallery": _ONE}),
    "both": PublishedCounts("JLML, table 2", {"train": _TRAIN, "query": _BOTH, "gallery": _BOTH}),
}


def read_viper(
    root: Path | str,
    split: NonNegativeInt = 0,
    seed: Seed = 0,
    directions: Directions = "one",
) -> Benchmark:
    """Read VIPeR: half of the people for training; of the others, cam_a is query, cam_b gallery.

    Papers report means over ten random halves (JLML, section 3) without publishing them. These
    halves are our own, the same on every machine.

    Args:
        root: folder of the release.
        split: number of the half, 0 to 9.
        seed: random seed of the ten halves.
        directions: `one`, as above; JLML does not name its direction. `both` also ranks cam_a for
            queries from cam_b, and averages the two directions, as torchreid over its 20 splits.

    Raises:
        DatasetError: a folder is missing, the split is unknown, or a person does not have exactly
            one image in each camera.
    """
    root = Path(root).expanduser()
    require("viper", root, list(CAMERAS), ["cam_a/000_45.bmp ...", "cam_b/000_90.bmp ..."])
    check_split("viper", split, SPLITS)
    a, b = (_read_camera(root, folder) for folder in CAMERAS)
    if not _same_people(a.pids, b.pids):
        only = np.setxor1d(a.pids, b.pids) - 1
        who = (
            f"people {only[:5].tolist()} are in one camera only"
            if len(only)
            else "some have two in a camera"
        )
        raise DatasetError(
            f"viper: {root} must have one image of each person in cam_a and one in cam_b, but "
            f"{who}: extract the release again"
        )
    is_train = np.isin(a.pids, half(a.pids, split, seed))
    train = Split.concatenate(a.take(is_train), b.take(is_train))
    query, gallery, name = a.take(~is_train), b.take(~is_train), f"viper_{split}"
    if directions == "both":  # a query's own camera is hidden
        query = gallery = Split.concatenate(query, gallery)
        name += "_both"
    benchmark = Benchmark(name, train, query, gallery, protocol=PROTOCOL)
    return compared(benchmark, PUBLISHED[directions])


def half(pids: np.ndarray, split: int, seed: int) -> list[int]:
    """Choose half of the people by a hash, independent of any random generator's version."""

    def key(pid: int) -> bytes:
        return sha256(f"{seed} {split} {pid}".encode()).digest()

    return sorted(pids.tolist(), key=key)[: len(pids) // 2]


def _read_camera(root: Path, folder: str) -> Split:
    matches = match_names(root / folder, NAME, "000_45.bmp")
    # person 000 becomes pid 1: pid 0 is for distractors
    rows = [(f"{folder}/{m[0]}", int(m[1]) + 1, CAMERAS[folder], 0) for m in matches]
    split = Split.of(root, rows)
    return split.take(np.argsort(split.pids, kind="stable"))


def _same_people(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b) and len(np.unique(a)) == len(a)
