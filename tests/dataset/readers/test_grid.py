"""QMUL-GRID on a miniature release in the true layout and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from reid_lab.dataset import DatasetError, read_grid
from reid_lab.dataset.splits import check_rankable
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.evaluation import rank_trials
from reid_lab.retrieval.ranking import rank
from tests.conftest import write_jpegs

IMAGES = [
    "probe/0001_1_25004_107_32_106_221.jpeg",
    "probe/0002_2_25023_116_134_128_330.jpeg",
    "probe/0003_5_25061_98_77_110_240.jpeg",
    "probe/0004_1_25063_98_77_110_240.jpeg",
    "gallery/0001_2_25008_169_19_94_224.jpeg",
    "gallery/0002_3_25098_116_134_128_330.jpeg",
    "gallery/0003_8_25161_98_77_110_240.jpeg",
    "gallery/0004_7_25163_98_77_110_240.jpeg",
    "gallery/0000_1_25013_34_12_90_230.jpeg",
    "gallery/0000_5_25014_35_12_90_230.jpeg",
]


def write_partitions(root: Path, splits: list[list[int]], field: str = "personIdx") -> None:
    """A cell of structs, each with a row of image indexes of either folder and of people."""
    cell = np.empty((1, len(splits)), object)
    for number, people in enumerate(splits):
        row = np.array([people], np.float64)
        cell[0, number] = {"probeImIdx": 2 * row, "galleryImIdx": 2 * row - 1, field: row}
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": cell, "features": np.eye(3)})


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = write_jpegs(tmp_path / "underground_reid", IMAGES)
    write_partitions(root, [[1, 4], [2, 3]])
    return root


@pytest.mark.parametrize(("split", "trained", "found"), [(0, [1, 4], [2, 3]), (1, [2, 3], [1, 4])])
def test_published_splits(release: Path, split: int, trained: list, found: list) -> None:
    benchmark = read_grid(release, split)
    assert benchmark.train.pids.tolist() == trained * 2
    assert benchmark.query.pids.tolist() == found
    assert sorted(benchmark.gallery.pids.tolist()) == [0, 0, *found]
    assert benchmark.query.path(0).parent.name == "probe"
    check_rankable("grid", benchmark.query, benchmark.gallery, benchmark.protocol.hidden)
    assert "gallery images: expected 900, found 4" in benchmark.notes[0]


def test_cameras_come_from_the_names(release: Path) -> None:
    benchmark = read_grid(release)
    assert benchmark.train.camids.tolist() == [1, 1, 2, 7]
    assert benchmark.query.camids.tolist() == [2, 5]


def test_distractors_of_the_querys_camera_are_seen(release: Path) -> None:
    benchmark = read_grid(release)  # the query of person 3 and a distractor are of camera 5
    query, gallery = benchmark.query.take(benchmark.query.pids == 3), benchmark.gallery
    ids = [
        Ids(torch.from_numpy(x.pids), torch.from_numpy(x.camids), x.names) for x in (query, gallery)
    ]
    place = {0: 0.0, 3: 1.0, 2: 2.0}  # the distractors are nearer than the match
    features = torch.tensor([[place[pid]] for pid in gallery.pids])
    ranking = rank_trials(rank, torch.zeros(1, 1), features, *ids, protocol=benchmark.protocol)
    assert ranking.first.tolist() == [[2]]


def write_fields(root: Path, **fields: Any) -> None:
    cell = np.empty((1, 1), object)
    cell[0, 0] = fields
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": cell})


def test_people_under_another_name_are_the_third_field(release: Path) -> None:
    expected = read_grid(release, 1).train.names.tolist()
    write_partitions(release, [[1, 4], [2, 3]], "ix")
    assert read_grid(release, 1).train.names.tolist() == expected
    write_fields(release, personIdx=[[2, 3]], a=[[1]], b=[[4]])  # its name is before its position
    assert read_grid(release).train.names.tolist() == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: write_partitions(root, [[1, 300]]), r"people \[300\], who have no image"),
        (lambda root: write_fields(root, people=[[1]]), r"has people, not personIdx, nor a third"),
        (lambda root: write_fields(root, a=[[1]], b=[[1]], c="all"), "expected c to be numbers"),
        (lambda root: savemat(root / "features_and_partitions.mat", {"x": 1}), "trainIdxAll"),
        (lambda root: write_fields(root, personIdx="all"), "expected personIdx to be numbers"),
        (lambda root: (root / "features_and_partitions.mat").write_bytes(b"x"), "cannot be read"),
        (lambda root: (root / "features_and_partitions.mat").unlink(), "features_and_partitions"),
        (lambda root: write_jpegs(root, ["probe/x.jpeg"]), r"1 names do not match 0001_1_.*'x\.j"),
    ],
)
def test_releases_that_do_not_fit(release: Path, change: Any, message: str) -> None:
    change(release)
    with pytest.raises(DatasetError, match=message):
        read_grid(release)


def test_unknown_split(release: Path) -> None:
    with pytest.raises(DatasetError, match=r"grid: unknown split 2: .*split=0 to 1"):
        read_grid(release, 2)
