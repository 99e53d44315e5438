"""Writes a miniature cuhk-03.mat as MATLAB writes v7.3, and the new protocol's split files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

PEOPLE = [3, 2, 1]  # in each pair of cameras
TEST_SETS = [[(1, 2), (3, 1)], [(1, 1), (2, 2)]]
EMPTY = {("labeled", 1, 2, 1), ("labeled", 1, 2, 10), ("detected", 2, 1, 5)}


def pixels(pair: int, person: int, column: int) -> np.ndarray:
    """Return (H, W, 3) uint8 in MATLAB's order; sizes differ, so that swapped axes are noticed."""
    rng = np.random.default_rng([pair, person, column])
    return rng.integers(0, 256, (9 + column, 4 + person, 3), np.uint8)


class Mat:
    """Writes arrays as MATLAB does: transposed, cells as references into #refs#."""

    def __init__(self, path: Path) -> None:
        self.file = h5py.File(path, "w", userblock_size=512)
        self.refs = self.file.create_group("#refs#")

    def array(self, value: np.ndarray) -> h5py.Reference:
        data = self.refs.create_dataset(f"a{len(self.refs)}", data=value.T)
        data.attrs["MATLAB_class"] = np.bytes_(value.dtype.name)
        return data.ref

    def empty(self) -> h5py.Reference:
        data = self.refs.create_dataset(f"a{len(self.refs)}", data=np.zeros(2, np.uint64))
        data.attrs["MATLAB_class"], data.attrs["MATLAB_empty"] = np.bytes_("double"), np.uint8(1)
        return data.ref

    def cell(self, rows: Sequence[Sequence[h5py.Reference]], name: str = "") -> h5py.Reference:
        shape = (len(rows[0]), len(rows))
        home = self.file if name else self.refs
        data = home.create_dataset(name or f"a{len(self.refs)}", shape, h5py.ref_dtype)
        for i, row in enumerate(rows):
            for j, reference in enumerate(row):
                data[j, i] = reference
        data.attrs["MATLAB_class"] = np.bytes_("cell")
        return data.ref


def write_mat(path: Path, test_sets: Sequence[Sequence[tuple[int, int]]] = TEST_SETS) -> Path:
    mat = Mat(path)
    for boxes in ("detected", "labeled"):
        pairs = [
            mat.cell([images(mat, boxes, pair, person) for person in range(1, count + 1)])
            for pair, count in enumerate(PEOPLE, 1)
        ]
        mat.cell([[pair] for pair in pairs], boxes)
    mat.cell([[mat.array(np.array(people, np.float64))] for people in test_sets], "testsets")
    mat.file.close()
    return path


def images(mat: Mat, boxes: str, pair: int, person: int) -> list[h5py.Reference]:
    """Columns 1, 2, 5 of view 1; 6 and 10 of view 2."""
    return [
        mat.array(pixels(pair, person, column))
        if column in (1, 2, 5, 6, 10) and (boxes, pair, person, column) not in EMPTY
        else mat.empty()
        for column in range(1, 11)
    ]


def write_split(folder: Path, boxes: str, **changes: object) -> None:
    """Zhong et al.'s file: person 2_001 is for training, 1_002 for test; MATLAB counts from 1."""
    names = ["2_001_1_02.png", "1_002_1_02.png", "2_001_2_10.png", "1_002_2_06.png"]
    files = np.empty((4, 1), object)
    files[:, 0] = names
    fields = {
        "filelist": files,
        "labels": np.array([[4], [2], [4], [2]], np.uint16),
        "camId": np.array([[1], [1], [2], [2]], np.uint8),
        "train_idx": np.array([[1], [3]], np.uint16),
        "query_idx": np.array([[2]], np.uint16),
        "gallery_idx": np.array([[4]], np.uint16),
    }
    savemat(folder / f"cuhk03_new_protocol_config_{boxes}.mat", {**fields, **changes})
