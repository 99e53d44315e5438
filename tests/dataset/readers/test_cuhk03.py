"""CUHK03 as first released: a miniature cuhk-03.mat as MATLAB writes v7.3, and split files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reid_lab.dataset import Benchmark, DatasetError, read_cuhk03
from reid_lab.dataset.images import decode
from reid_lab.dataset.readers import cuhk03_mat
from reid_lab.dataset.splits import check_rankable
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.evaluation import trials
from tests.dataset.readers.cuhk03_release import pixels, write_mat, write_split


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cuhk03_release")
    write_mat(root / "cuhk-03.mat")
    for boxes in ("detected", "labeled"):
        write_split(root, boxes)
    return root


def names(benchmark: Benchmark, part: str) -> list[str]:
    return [name.decode() for name in getattr(benchmark, part).names]


def test_new_protocol_selects_by_name(release: Path, tmp_path: Path) -> None:
    before = sorted(release.iterdir())
    benchmark = read_cuhk03(release, tmp_path)
    assert names(benchmark, "train") == ["2_001_1_02.png", "2_001_2_10.png"]
    assert names(benchmark, "query") == ["1_002_1_02.png"]
    assert names(benchmark, "gallery") == ["1_002_2_06.png"]
    assert benchmark.train.pids.tolist() == [4, 4]  # the labels of the split file
    assert (benchmark.query.pids.tolist(), benchmark.gallery.pids.tolist()) == ([2], [2])
    assert benchmark.train.camids.tolist() == [1, 2]
    assert benchmark.protocol.shots is None
    assert "query images: expected 1,400, found 1;" in benchmark.notes[0]
    assert sorted(release.iterdir()) == before


def test_pixels_are_those_of_the_mat(release: Path, tmp_path: Path) -> None:
    gallery = read_cuhk03(release, tmp_path).gallery
    assert np.array_equal(decode(gallery.path(0)), pixels(1, 2, 6))


@pytest.mark.parametrize(
    ("split", "query", "gallery", "cameras"),
    [
        (0, ["1_002_1_01", "1_002_1_02", "1_002_1_05"], ["1_002_2_06", "1_002_2_10"], [1, 2]),
        (1, ["2_002_1_01", "2_002_1_02", "2_002_1_05"], ["2_002_2_06", "2_002_2_10"], [3, 4]),
    ],
)
def test_old_protocol(
    release: Path, tmp_path: Path, split: int, query: list[str], gallery: list[str], cameras: list
) -> None:
    benchmark = read_cuhk03(release, tmp_path, protocol="old", split=split)
    pid = {0: 2, 1: 5}[split]
    for part, stems, camera in zip(("query", "gallery"), (query, gallery), cameras, strict=True):
        ours = getattr(benchmark, part)
        ours = ours.take(ours.pids == pid)
        assert [name.decode()[:-4] for name in ours.names] == stems
        assert set(ours.camids.tolist()) == {camera}
    asked = benchmark.query.identities
    assert len(asked) == 2
    assert sorted([*asked, *benchmark.train.identities]) == [1, 2, 3, 4, 5, 6]
    assert (benchmark.protocol.hidden, benchmark.protocol.shots) == ("same_camera", 1)
    check_rankable("mini", benchmark.query, benchmark.gallery, "same_camera")


def test_old_protocol_in_both_directions(release: Path, tmp_path: Path) -> None:
    one = read_cuhk03(release, tmp_path, protocol="old")
    both = read_cuhk03(release, tmp_path, protocol="old", directions="both")
    assert (both.name, both.protocol) == ("cuhk03_old_detected_0_both", one.protocol)
    assert names(both, "train") == names(one, "train")
    assert both.train.camids.tolist() == one.train.camids.tolist()
    expected = sorted(names(one, "query") + names(one, "gallery"))
    assert names(both, "query") == names(both, "gallery") == expected
    query, gallery = map(Ids.of, (both.query, both.gallery))
    (groups,) = list(trials(query, gallery, replace(both.protocol, trials=1)))
    for asked, seen in groups:  # one image of each person, of the other view, in both directions
        (view,) = {name.split("_")[2] for name in np.array(expected)[asked].tolist()}
        drawn = np.array(expected)[seen].tolist()
        assert {name.split("_")[2] for name in drawn} == {"21"[int(view) - 1]}
        assert len({name[:5] for name in drawn}) == len(drawn) == 2
    assert sum(len(asked) for asked, _ in groups) == len(expected)


def test_boxes_are_unpacked_apart_and_empty_cells_left_out(release: Path, tmp_path: Path) -> None:
    detected = read_cuhk03(release, tmp_path, protocol="old")
    labeled = read_cuhk03(release, tmp_path, "labeled", "old")
    assert detected.query.root != labeled.query.root
    assert names(labeled, "query")[:2] == ["1_002_1_02.png", "1_002_1_05.png"]
    assert "2_001_1_05.png" not in names(detected, "train")
    assert "2_001_1_05.png" in names(labeled, "train")
    assert sum(map(len, (detected.train, detected.query, detected.gallery))) == 5 * 6 - 1


def test_unpacked_once_by_one_of_many(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    unpack = cuhk03_mat._unpack_to

    def counted(path: Path, boxes: str, folder: Path) -> None:
        calls.append(path)
        unpack(path, boxes, folder)

    monkeypatch.setattr(cuhk03_mat, "_unpack_to", counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_cuhk03(release, tmp_path).query.root, range(4)))
    assert len(set(found)) == len(calls) == 1


def test_nothing_is_unpacked_into_a_gallery(release: Path, tmp_path: Path) -> None:
    (tmp_path / "gallery.json").touch()
    with pytest.raises(DatasetError, match="inside of the gallery"):
        read_cuhk03(release, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_interruption_starts_over(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = Image.Image.save, []

    def interrupted(image: Image.Image, path: Path, **options: object) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(path)
        save(image, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_cuhk03(release, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    root = read_cuhk03(release, tmp_path, protocol="old").query.root
    stale = root.with_suffix(".part")  # left by a killed process
    root.rename(stale)
    (stale / "9_999_1_01.png").write_bytes(b"half")
    assert len(list(read_cuhk03(release, tmp_path).query.root.iterdir())) == 5 * 6 - 1
    assert not stale.exists()


def test_another_mat_is_unpacked_anew(tmp_path: Path) -> None:
    mat = write_mat(tmp_path / "cuhk-03.mat")
    first = read_cuhk03(tmp_path, tmp_path / "c", protocol="old").query.root
    os.utime(mat, (1, 1))
    assert read_cuhk03(tmp_path, tmp_path / "c", protocol="old").query.root != first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "old", "split": 2}, r"unknown split 2.*split=0 to 1"),
        ({"directions": "both"}, r"directions=both is of the old protocol.*protocol=old"),
        ({"split": 1}, r"new protocol.*unknown split 1.*0, the only one"),
        ({"split_files": "/nowhere"}, r"/nowhere/cuhk03_new_.*_detected.mat does not.*split_files"),
    ],
)
def test_wrong_options(release: Path, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_cuhk03(release, tmp_path / "c", **options)
    assert not (tmp_path / "c").exists()  # reported before the long unpacking


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filelist": np.array([["7_001_1_01.png"]] * 4, object)}, r"names 1 images.*7_001_1_01"),
        ({"query_idx": np.array([[5]])}, r"query_idx is not within filelist, 1 to 4"),
        ({"query_idx": np.array([[0]])}, r"query_idx is not within filelist"),
    ],
)
def test_split_file_that_does_not_fit(
    release: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    write_split(tmp_path, "detected", **changes)
    with pytest.raises(DatasetError, match=message):
        read_cuhk03(release, tmp_path / "c", split_files=tmp_path)


def test_split_file_without_its_fields(release: Path, tmp_path: Path) -> None:
    savemat(tmp_path / "cuhk03_new_protocol_config_detected.mat", {"labels": np.eye(2)})
    with pytest.raises(DatasetError, match="filelist"):
        read_cuhk03(release, tmp_path / "c", split_files=tmp_path)


def test_mat_that_is_none(release: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"does not exist.*\n.*cuhk-03\.mat"):
        read_cuhk03(tmp_path / "none", tmp_path)
    mat = tmp_path / "cuhk-03.mat"
    mat.write_bytes((release / "cuhk-03.mat").read_bytes()[:20000])
    with pytest.raises(DatasetError, match="not a complete MATLAB v7.3 file"):
        read_cuhk03(tmp_path, tmp_path / "c", protocol="old")
    with h5py.File(mat, "w") as file:
        file["other"] = 1
    with pytest.raises(DatasetError, match=r"no cell array 'testsets', only other"):
        read_cuhk03(tmp_path, tmp_path / "c", protocol="old")


def test_an_array_beyond_the_pixel_limit_is_not_read(release: Path, tmp_path: Path) -> None:
    (tmp_path / "cuhk-03.mat").write_bytes((release / "cuhk-03.mat").read_bytes())
    with h5py.File(tmp_path / "cuhk-03.mat", "r+") as file:
        huge = file.create_dataset(
            "huge", (3, 60000, 60000), np.uint8, chunks=(3, 100, 100), compression="gzip"
        )
        people = file[file["detected"][()].ravel()[0]]
        people[0, 0] = huge.ref
    with pytest.raises(DatasetError, match=r"60000, 60000.*the limit is 67,108,864 pixels"):
        read_cuhk03(tmp_path, tmp_path / "c", protocol="old")


def test_split_files_of_another_type(release: Path, tmp_path: Path) -> None:
    path = tmp_path / "cuhk03_new_protocol_config_detected.mat"
    every = {f"{part}_idx": "abc" for part in ("train", "query", "gallery")}
    savemat(path, {"filelist": np.array(["a", "b"], dtype=object), **every})
    with pytest.raises(DatasetError, match="expected a list of names"):
        read_cuhk03(release, tmp_path / "c", split_files=tmp_path)


def test_test_set_of_unknown_people(tmp_path: Path) -> None:
    write_mat(tmp_path / "cuhk-03.mat", [[(1, 1), (2, 9)]])
    with pytest.raises(DatasetError, match=r"1 people without a detected.*person 9 of pair 2"):
        read_cuhk03(tmp_path, tmp_path / "c", protocol="old")


def test_cache_that_cannot_be_written(release: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"cannot be unpacked.*set dataset\.cache_dir"):
        read_cuhk03(release, tmp_path / "file" / "c")
