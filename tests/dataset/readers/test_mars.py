"""MARS, on a miniature release with the true names, name lists and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from reid_lab.dataset import DatasetError, read_mars
from reid_lab.dataset.images import check_files
from reid_lab.dataset.splits import check_rankable
from reid_lab.protocol import TRACKLETS
from tests.conftest import write_jpegs

# frames, pid, camera of each tracklet
TRAIN = [(2, 1, 1), (3, 1, 2), (2, 3, 6)]
TEST = [(2, -1, 1), (2, 0, 3), (5, 2, 1), (2, 2, 1), (3, 2, 4), (2, 4, 5)]
QUERIES = [3, 5]  # person 2 in cameras 1 and 4


def table(tracklets: list[tuple[int, int, int]]) -> np.ndarray:
    last = np.cumsum([frames for frames, _, _ in tracklets])
    first = last - [frames for frames, _, _ in tracklets] + 1
    return np.array([(a, b, *t[1:]) for a, b, t in zip(first, last, tracklets, strict=True)])


def file_names(tracklets: list[tuple[int, int, int]]) -> list[str]:
    return [
        f"{'00-1' if pid < 0 else f'{pid:04d}'}C{camid}T{number:04d}F{frame:03d}.jpg"
        for number, (frames, pid, camid) in enumerate(tracklets, 1)
        for frame in range(1, frames + 1)
    ]


def write(root: Path, info: str = "info") -> Path:
    for part, tracklets in (("train", TRAIN), ("test", TEST)):
        names = file_names(tracklets)
        write_jpegs(root / f"bbox_{part}", [f"{name[:4]}/{name}" for name in names])
        (root / info).mkdir(exist_ok=True, parents=True)
        (root / info / f"{part}_name.txt").write_text("\r\n".join(names) + "\r\n")
        save(root / info / f"tracks_{part}_info.mat", f"track_{part}_info", table(tracklets))
    save(root / info / "query_IDX.mat", "query_IDX", np.array([QUERIES], dtype=np.uint16))
    return root


def save(path: Path, name: str, value: Any) -> None:
    savemat(path, {name: value})


@pytest.mark.parametrize("info", ["info", ".", "MARS-evaluation/info"])
def test_tracklets(tmp_path: Path, info: str) -> None:
    benchmark = read_mars(write(tmp_path, info))
    assert benchmark.protocol == TRACKLETS
    assert benchmark.train.tracks.tolist() == [1, 1, 2, 2, 2, 3, 3]
    assert benchmark.train.pids.tolist() == [1, 1, 1, 1, 1, 3, 3]
    assert benchmark.train.camids.tolist() == [1, 1, 2, 2, 2, 6, 6]
    assert set(benchmark.query.tracks.tolist()) == set(QUERIES)
    assert (len(benchmark.query), len(benchmark.gallery)) == (5 + 3, 16)
    assert benchmark.gallery.path(0) == tmp_path / "bbox_test" / "00-1" / "00-1C1T0001F001.jpg"
    for split in (benchmark.train, benchmark.query, benchmark.gallery):
        check_files(split)


def test_junk_and_distractors_stay_in_the_gallery(tmp_path: Path) -> None:
    gallery = read_mars(write(tmp_path)).gallery
    assert gallery.pids[:4].tolist() == [-1, -1, 0, 0]
    assert gallery.identities.tolist() == [2, 4]


def test_queries_find_each_other_as_the_owners_evaluate(tmp_path: Path) -> None:
    whole = read_mars(write(tmp_path))
    rest = read_mars(tmp_path, queries_in_gallery=False)
    assert whole.gallery.tracks.max() == 6
    assert set(rest.gallery.tracks.tolist()) == {1, 2, 4, 6}
    assert len(rest.gallery) + len(rest.query) == len(whole.gallery)
    fourth = whole.query.take(whole.query.camids == 1)
    check_rankable("mars", fourth, whole.gallery, whole.protocol.hidden)
    with pytest.raises(DatasetError, match="no query has a gallery image"):
        check_rankable("mars", fourth, rest.gallery, rest.protocol.hidden)


def test_the_gallery_of_torchreid(tmp_path: Path) -> None:
    gallery = read_mars(write(tmp_path), queries_in_gallery=False, junk_in_gallery=False).gallery
    assert set(gallery.tracks.tolist()) == {2, 4, 6} and gallery.pids.min() == 0
    (note,) = read_mars(tmp_path, queries_in_gallery=False, junk_in_gallery=False).notes
    assert "gallery tracklets: expected 9,330, found 3" in note
    assert "gallery images" not in note and "query images" in note
    whole = read_mars(tmp_path, junk_in_gallery=False)
    assert set(whole.gallery.tracks.tolist()) == {2, 3, 4, 5, 6}
    assert "gallery tracklets: expected 11,310, found 5" in whole.notes[0]
    assert "gallery tracklets: expected 12,180" in read_mars(tmp_path).notes[0]


@pytest.mark.parametrize(
    ("frames", "kept"),
    [(1, [3]), (2, [2, 4]), (3, [1, 3, 5]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])],
)
def test_frames_are_evenly_spaced(tmp_path: Path, frames: int, kept: list[int]) -> None:
    benchmark = read_mars(write(tmp_path), frames=frames)
    track = benchmark.query.take(benchmark.query.tracks == 3)
    assert [int(name[-7:-4]) for name in track.names.tolist()] == kept
    assert len(np.unique(benchmark.gallery.tracks)) == len(TEST)
    assert len(benchmark.train) == sum(min(frames, n) for n, _, _ in TRAIN)


def test_published_counts(tmp_path: Path) -> None:
    (note,) = read_mars(write(tmp_path)).notes
    assert "gallery tracklets: expected 12,180, found 6" in note
    assert "train images: expected 509,914, found 7" in note
    (note,) = read_mars(tmp_path, frames=4, queries_in_gallery=False).notes
    assert "gallery tracklets: expected 10,200, found 4" in note
    assert "images" not in note


@pytest.mark.parametrize(
    ("file", "name", "value", "message"),
    [
        (
            "tracks_test_info.mat",
            "track_test_info",
            table([*TEST, (1, 5, 1)]),
            r"row 7: lines 17 to",
        ),
        ("tracks_test_info.mat", "track_test_info", [[0, 2, -1, 1]], r"row 1: lines 0 to 2"),
        ("tracks_test_info.mat", "track_test_info", [[2, 1, -1, 1]], r"row 1: lines 2 to 1"),
        ("tracks_test_info.mat", "track_test_info", [[1, 2, -1]], r"found shape \(1, 3\)"),
        (
            "tracks_test_info.mat",
            "track_test_info",
            table([(2, -1, 1), (2, 7, 3)]),
            r"row 2.*0007C3",
        ),
        ("tracks_train_info.mat", "track_train_info", table([(2, 1, 1), (3, 1, 3)]), r"0001C3"),
        ("query_IDX.mat", "query_IDX", [[7]], r"rows of tracks_test_info.mat, 1 to 6"),
        ("query_IDX.mat", "query_IDX", [[0]], r"1 to 6"),
        ("query_IDX.mat", "query_IDX", [["a"]], r"query_IDX.mat is not a table of numbers"),
    ],
)
def test_tables_that_contradict_the_names(
    tmp_path: Path, file: str, name: str, value: Any, message: str
) -> None:
    save(write(tmp_path) / "info" / file, name, value)
    with pytest.raises(DatasetError, match=message):
        read_mars(tmp_path)


def test_names_that_are_not_utf8_are_shown(tmp_path: Path) -> None:
    (write(tmp_path) / "info" / "train_name.txt").write_bytes(b"\xff\xfe\n" * 9)
    with pytest.raises(DatasetError, match=r"udcff\\udcfe should start with"):
        read_mars(tmp_path)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    (write(tmp_path) / "info" / "query_IDX.mat").write_bytes(b"no matrix")
    with pytest.raises(DatasetError, match=r"query_IDX\.mat is not a table of numbers"):
        read_mars(tmp_path)
    (tmp_path / "info" / "test_name.txt").unlink()
    with pytest.raises(
        DatasetError, match=r"(?s)has no info/test_name\.txt\. Expected:.*bbox_test"
    ):
        read_mars(tmp_path)
