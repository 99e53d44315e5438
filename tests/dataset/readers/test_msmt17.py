"""MSMT17, on miniature releases in the true layout and names, V1 and V2."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reid_lab.dataset import DatasetError, read_msmt17
from reid_lab.dataset.images import check_files
from reid_lab.dataset.notes import Info
from tests.conftest import write_jpegs

LISTS = {
    "train": [
        "0000/0000_000_01_0303morning_0008_0.jpg 0",
        "0001/0001_000_15_0113noon_0015_0.jpg 1",
    ],
    "val": ["0000/0000_014_04_0303morning_0020_2_ex.jpg 0"],
    "query": [
        "0000/0000_000_01_0303morning_0015_0.jpg 0",
        "0001/0001_002_07_0302noon_0019_1.jpg 1",
    ],
    "gallery": ["0000/0000_009_12_0114afternoon_0020_0.jpg 0"],
}


def write(root: Path, train: str = "train", test: str = "test", end: str = "\n") -> Path:
    folders = {"train": train, "val": train, "query": test, "gallery": test}
    for name, lines in LISTS.items():
        write_jpegs(root / folders[name], [line.split()[0] for line in lines])
        (root / f"list_{name}.txt").write_text(end.join([*lines, ""]), newline="")
    return root


@pytest.mark.parametrize(
    ("train", "test", "release", "end"),
    [("train", "test", "v1", "\n"), ("mask_train_v2", "mask_test_v2", "v2", "\r\n")],
)
def test_both_releases(tmp_path: Path, train: str, test: str, release: str, end: str) -> None:
    benchmark = read_msmt17(write(tmp_path, train, test, end))
    assert benchmark.name == f"msmt17_{release}"
    assert benchmark.train.camids.tolist() == [1, 15, 4]
    assert benchmark.gallery.camids.tolist() == [12]
    assert benchmark.query.path(1).parts[-3] == test
    for split in (benchmark.train, benchmark.query, benchmark.gallery):
        check_files(split)


@pytest.mark.parametrize(("val", "images"), [(True, 3), (False, 2)])
def test_training_and_test_people_stay_apart(tmp_path: Path, val: bool, images: int) -> None:
    benchmark = read_msmt17(write(tmp_path), val=val)
    assert len(benchmark.train) == images
    assert benchmark.train.pids.tolist() == [1, 2, 1][:images]
    assert benchmark.query.pids.tolist() == [3, 4]
    assert benchmark.gallery.pids.tolist() == [3]
    assert not np.isin(benchmark.train.pids, benchmark.query.pids).any()


@pytest.mark.parametrize(("val", "expected"), [(True, "32,621"), (False, "30,248")])
def test_published_training_images(tmp_path: Path, val: bool, expected: str) -> None:
    trained, note = read_msmt17(write(tmp_path), val=val).notes
    assert isinstance(trained, Info) and not isinstance(note, Info)
    listed = "list_train.txt and list_val.txt, 3" if val else "list_train.txt only, 2"
    assert f"msmt17_v1: trains on {listed} images" in trained
    assert f"dataset.reader.val={str(not val).lower()}" in trained
    assert f"train images: expected {expected}," in note
    assert "gallery images: expected 82,161, found 1" in note


@pytest.mark.parametrize(
    "line",
    [
        "0001/0001_000_15_0113noon_0015_0.jpg",
        "0001/0001_000_15_0113noon_0015_0.jpg one",
        "0001/0001_000_c5_0113noon_0015_0.jpg 1",
        "0001/0001.jpg 1",
        "0001/0001_000_15_x.jpg 99999999999999999999",
        os.fsdecode(bytes(range(128, 256))),
    ],
)
def test_a_line_that_does_not_parse_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path)
    text = f"{LISTS['gallery'][0]}\n\n{line}\n"
    (tmp_path / "list_gallery.txt").write_bytes(os.fsencode(text))
    with pytest.raises(DatasetError, match=r"list_gallery\.txt, line 3: .*is not PPPP"):
        read_msmt17(tmp_path)


def test_missing_and_empty_lists(tmp_path: Path) -> None:
    (write(tmp_path) / "list_val.txt").unlink()
    with pytest.raises(DatasetError, match=r"has no list_val\.txt"):
        read_msmt17(tmp_path)
    assert len(read_msmt17(tmp_path, val=False).train) == 2
    (tmp_path / "list_query.txt").write_text("\n")
    with pytest.raises(DatasetError, match=r"list_query\.txt is empty"):
        read_msmt17(tmp_path, val=False)


def test_missing_folder_shows_both_layouts(tmp_path: Path) -> None:
    write(tmp_path / "MSMT17_V1")
    with pytest.raises(DatasetError, match=r"(?s)mask_train_v2.*did you mean .*MSMT17_V1\?"):
        read_msmt17(tmp_path)
