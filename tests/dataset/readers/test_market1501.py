"""Market-1501, its layout, and CUHK03-NP, on miniature releases in the true layout and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_lab.dataset import DatasetError, Split, read_cuhk03_np, read_layout, read_market1501
from reid_lab.dataset.readers.market1501 import FOLDERS
from reid_lab.dataset.splits import check_rankable
from tests.conftest import write_jpegs

MARKET = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000301_01.jpg",
    "bounding_box_train/0007_c3s3_077419_03.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c2s1_000901_01.jpg",
    "bounding_box_test/0000_c1s1_000151_01.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
]


def test_market_names_give_pid_camera_sequence(tmp_path: Path) -> None:
    (write_jpegs(tmp_path, MARKET) / "query" / "Thumbs.db").write_bytes(b"x")
    benchmark = read_market1501(tmp_path)
    assert benchmark.train.pids.tolist() == [2, 2, 7]
    assert benchmark.train.camids.tolist() == [1, 2, 3]
    assert benchmark.train.tracks.tolist() == [1, 1, 3]
    assert len(benchmark.query) == 1  # Thumbs.db, as released, is not an image
    assert sorted(benchmark.gallery.pids.tolist()) == [-1, 0, 1]
    assert benchmark.gallery.counts() == {"images": 3, "pids": 1, "cameras": 2}
    assert benchmark.train.path(0) == tmp_path / MARKET[0]


def test_counts_that_differ_are_noted(tmp_path: Path) -> None:
    notes = read_market1501(write_jpegs(tmp_path, MARKET)).notes
    assert any("train images: expected 12,936, found 3;" in note for note in notes)
    assert not read_layout(tmp_path, "mine").notes


@pytest.mark.parametrize("folder", ["images", "distractors_500k/images", "distractors_500k"])
def test_distractors_match_no_query_whatever_their_names(tmp_path: Path, folder: str) -> None:
    names = [
        "0001_c2s1_000011_01.jpg",
        "-1_c6s2_000021_02.jpg",
        "0000_c3s1_000031_03.png",
        "x9.jpg",
    ]
    write_jpegs(tmp_path, [*MARKET, *(f"{folder}/{name}" for name in names)])
    without = read_market1501(tmp_path)
    benchmark = read_market1501(tmp_path, distractors=True)
    added = benchmark.gallery.take(np.arange(len(without.gallery), len(benchmark.gallery)))
    assert added.pids.tolist() == [0] * 4
    assert sorted(added.camids.tolist()) == [0, 2, 3, 6]
    assert added.path(0).parent == tmp_path / folder
    assert benchmark.gallery.identities.tolist() == without.gallery.identities.tolist()
    assert "gallery images: expected 519,732, found 7" in benchmark.notes[0]
    assert "gallery images: expected 19,732, found 3" in without.notes[0]


def test_multi_query_images_are_the_queries_people_in_their_cameras(tmp_path: Path) -> None:
    drawn = [
        "gt_bbox/0001_c1s1_001051_00.jpg",  # the query itself
        "gt_bbox/0001_c1s2_002051_00.jpg",
        "gt_bbox/0001_c2s1_000901_00.jpg",  # another camera
        "gt_bbox/0002_c1s1_000451_00.jpg",  # another person
    ]
    write_jpegs(tmp_path, [*MARKET, *drawn])
    assert read_market1501(tmp_path).multi_query is None
    benchmark = read_market1501(tmp_path, multi_query=True)
    assert benchmark.multi_query is not None
    assert benchmark.multi_query.names.tolist() == [drawn[1].encode()]
    everything = Split.concatenate(benchmark.query, benchmark.gallery, benchmark.multi_query)
    assert everything.pids.tolist() == [1, -1, 0, 1, 1]


@pytest.mark.parametrize(
    ("option", "folder"), [("distractors", "images"), ("multi_query", "gt_bbox")]
)
def test_what_is_asked_for_must_be_there(tmp_path: Path, option: str, folder: str) -> None:
    write_jpegs(tmp_path, MARKET)
    with pytest.raises(DatasetError, match=rf"{option}=true: .* has no {folder}\. Expected"):
        read_market1501(tmp_path, **{option: True})
    (tmp_path / folder).mkdir()
    with pytest.raises(DatasetError, match="has no image"):
        read_market1501(tmp_path, **{option: True})


def test_cuhk03_np_names_and_either_root(tmp_path: Path) -> None:
    names = [
        "detected/bounding_box_train/0003_c1_21.jpg",
        "detected/query/0001_c1_1.png",
        "detected/bounding_box_test/0001_c2_6.jpg",
    ]
    write_jpegs(tmp_path, names)
    for root in (tmp_path, tmp_path / "detected"):
        benchmark = read_cuhk03_np(root)
        assert benchmark.name == "cuhk03_np_detected"
        assert (benchmark.query.pids[0], benchmark.gallery.camids[0]) == (1, 2)
    with pytest.raises(DatasetError, match="query"):
        read_cuhk03_np(tmp_path, "labeled")


def test_missing_folder_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)does not exist.*bounding_box_train/0001_c1s1"):
        read_layout(tmp_path / "nowhere", "market1501")
    write_jpegs(tmp_path / "inner", MARKET)
    with pytest.raises(DatasetError, match=r"did you mean dataset.root=.*inner"):
        read_layout(tmp_path, "market1501")


def test_other_files_are_counted(tmp_path: Path) -> None:
    names = [f"{part}/1_c{c}_1.jpg" for part in FOLDERS.values() for c in (1, 2)]
    root = write_jpegs(tmp_path, names)
    assert not read_layout(root, "x").notes
    for name in ("query/a.gif", "query/Thumbs.db", "bounding_box_train/b.heic"):
        (root / name).touch()
    (note,) = read_layout(root, "x").notes
    assert note.startswith("x: 2 files are skipped") and "(1 .gif, 1 .heic)" in note


@pytest.mark.parametrize("name", ["-5_c1_1.jpg", f"{10**19}_c1_1.jpg", f"1_c{10**19}_1.jpg"])
def test_numbers_out_of_range_are_named(tmp_path: Path, name: str) -> None:
    root = write_jpegs(tmp_path, [f"{part}/1_c1_1.jpg" for part in FOLDERS.values()])
    write_jpegs(root, [f"query/{name}"])
    with pytest.raises(DatasetError, match=rf"query: 1 names do not match .*{name}"):
        read_layout(root, "x")


def test_empty_and_odd_folders(tmp_path: Path) -> None:
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DatasetError, match="has no image"):
        read_layout(tmp_path, "mine")
    write_jpegs(tmp_path, [*MARKET, "query/holiday.jpg"])
    with pytest.raises(DatasetError, match=r"1 names do not match .*holiday\.jpg"):
        read_layout(tmp_path, "mine")


def test_one_camera_is_allowed_and_no_match_is_not(tmp_path: Path) -> None:
    one = ["query/0001_c1_1.jpg", "bounding_box_test/0001_c1_2.jpg"]
    benchmark = read_layout(write_jpegs(tmp_path / "a", [MARKET[0], *one]), "one")
    assert benchmark.protocol.hidden == "nothing"
    assert "camera 1" in benchmark.notes[0]
    check_rankable("one", benchmark.query, benchmark.gallery, "nothing")
    with pytest.raises(DatasetError, match=r"camera \[1\]"):
        check_rankable("one", benchmark.query, benchmark.gallery, "same_camera")
    apart = ["query/0001_c1_1.jpg", "bounding_box_test/0002_c2_2.jpg"]
    benchmark = read_layout(write_jpegs(tmp_path / "b", [MARKET[0], *apart]), "apart")
    with pytest.raises(DatasetError, match="no query has a gallery image"):
        check_rankable("apart", benchmark.query, benchmark.gallery, "same_camera")
