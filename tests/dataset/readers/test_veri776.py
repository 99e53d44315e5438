"""VeRi-776, on a miniature release in the true layout and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_lab.dataset import DatasetError, read_veri776
from reid_lab.dataset.splits import check_rankable
from reid_lab.protocol import MARKET1501
from tests.conftest import write_jpegs

VERI = [
    "image_train/0001_c001_00016450_0.jpg",
    "image_train/0001_c020_00024355_0.jpg",
    "image_query/0002_c002_00030600_0.jpg",
    "image_test/0002_c002_00030605_1.jpg",
    "image_test/0002_c003_00025000_0.jpg",
    "image_test/0005_c019_00077625_0.jpg",
]


def test_names_give_vehicle_and_camera(tmp_path: Path) -> None:
    write_jpegs(tmp_path, VERI)
    (tmp_path / "name_train.txt").write_text("0001_c001_00016450_0.jpg\n")  # omits one
    benchmark = read_veri776(tmp_path)
    assert (benchmark.name, benchmark.protocol) == ("veri776", MARKET1501)
    assert benchmark.train.pids.tolist() == [1, 1]
    assert benchmark.train.camids.tolist() == [1, 20]
    assert benchmark.gallery.pids.tolist() == [2, 2, 5]
    assert benchmark.gallery.camids.tolist() == [2, 3, 19]
    assert benchmark.query.path(0) == tmp_path / VERI[2]
    check_rankable("veri776", benchmark.query, benchmark.gallery, benchmark.protocol.hidden)
    (note,) = benchmark.notes
    assert "train images: expected 37,778, found 2" in note
    assert "gallery pids: expected 200, found 2" in note


def test_missing_folder_shows_the_layout(tmp_path: Path) -> None:
    write_jpegs(tmp_path / "VeRi", VERI)
    match = r"(?s)no image_train, .*image_query/0001_c001_00016450_0.jpg.*did you mean .*VeRi\?"
    with pytest.raises(DatasetError, match=match):
        read_veri776(tmp_path)
