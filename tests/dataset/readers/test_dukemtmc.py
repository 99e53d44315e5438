"""DukeMTMC-reID, on a miniature release in the true layout and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_lab.dataset import DatasetError, read_dukemtmc
from reid_lab.dataset.splits import check_rankable
from tests.conftest import write_jpegs

DUKE = [
    "bounding_box_train/0001_c2_f0046182.jpg",
    "bounding_box_train/0001_c8_f0046302.jpg",
    "query/0005_c2_f0046985.jpg",
    "bounding_box_test/0005_c5_f0051341.jpg",
    "bounding_box_test/0023_c7_f0054000.jpg",  # a distractor has a pid, and one camera
]


def test_names_give_pid_and_camera(tmp_path: Path) -> None:
    benchmark = read_dukemtmc(write_jpegs(tmp_path, DUKE))
    assert benchmark.train.pids.tolist() == [1, 1]
    assert benchmark.train.camids.tolist() == [2, 8]
    assert benchmark.gallery.pids.tolist() == [5, 23]
    assert benchmark.gallery.counts()["pids"] == 2
    check_rankable("dukemtmc", benchmark.query, benchmark.gallery, benchmark.protocol.hidden)


def test_published_gallery_counts_the_people_of_one_camera(tmp_path: Path) -> None:
    (note,) = read_dukemtmc(write_jpegs(tmp_path, DUKE)).notes
    assert "gallery pids: expected 1,110, found 2" in note
    assert "incomplete copy" in note


def test_missing_folder(tmp_path: Path) -> None:
    write_jpegs(tmp_path / "DukeMTMC-reID", DUKE)
    with pytest.raises(
        DatasetError, match=r"(?s)dukemtmc.*did you mean .*DukeMTMC-reID\?"
    ) as error:
        read_dukemtmc(tmp_path)
    assert "bounding_box_train" in str(error.value)
