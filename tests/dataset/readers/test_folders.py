"""One folder per person: cameras in names, people split by folders or by the seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_lab.dataset import DatasetError, read_folders
from reid_lab.dataset.notes import Info
from reid_lab.images.files import SUFFIXES
from tests.conftest import write_jpegs

PEOPLE = ["anna", "ben", "cleo", "dora"]
NAMES = [f"{who}/img_c{camera}_{i}.jpg" for who in PEOPLE for camera in (1, 2) for i in (1, 2)]


def test_people_and_cameras_from_names(tmp_path: Path) -> None:
    root = write_jpegs(tmp_path / "shop", NAMES)
    (root / "anna" / "notes.txt").write_text("x")
    (root / ".thumbnails").mkdir()
    (root / "empty").mkdir()
    b = read_folders(root)
    assert sorted({*b.train.identities, *b.query.identities}) == [1, 2, 3, 4]
    assert (len(b.train), len(b.query), len(b.gallery)) == (8, 4, 4)
    for split in (b.train, b.query, b.gallery):
        for i, name in enumerate(split.names):
            who, _, camera = name.decode().replace("/img_c", " ").partition(" ")
            assert split.pids[i] == PEOPLE.index(who) + 1
            assert split.camids[i] == int(camera[0])
    assert "2 of 4 identities for training" in b.notes[0] and isinstance(b.notes[0], Info)


@pytest.mark.parametrize(
    ("parts", "counts"),
    [(("train", "query", "gallery"), (16, 16, 16)), (("train", "test"), (16, 8, 8))],
)
def test_folders_divide(tmp_path: Path, parts: tuple[str, ...], counts: tuple[int, ...]) -> None:
    root = write_jpegs(tmp_path, [f"{part}/{name}" for part in parts for name in NAMES])
    b = read_folders(root)
    assert (len(b.train), len(b.query), len(b.gallery)) == counts
    assert b.train.path(0) == root / "train" / NAMES[0]
    assert not b.notes


def test_integers_keep_their_values(tmp_path: Path) -> None:
    names = [f"{who}/{camera}.png" for who in ("0", "-1", "0007", "0012") for camera in "59"]
    b = read_folders(write_jpegs(tmp_path, names), camera=r"^(\d)")
    assert sorted({*b.train.pids, *b.query.pids, *b.gallery.pids}) == [-1, 0, 7, 12]
    assert set(b.gallery.camids) == {5, 9}


def test_one_camera_where_names_do_not_say(tmp_path: Path) -> None:
    b = read_folders(write_jpegs(tmp_path, NAMES), camera=None)
    assert b.protocol.hidden == "nothing" and set(b.train.camids) == {1}
    assert (len(b.query), len(b.gallery)) == (2, 6)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (r"c\d+", r"has 0 groups.*c\(\\d\+\)"),
        (r"(c)(\d+)", "has 2 groups"),
        (r"c(\d+", "not a valid regular expression"),
        (r"door(\d)", r"(?s)16 problems.*anna/img_c1_1.jpg.*\.\.\..*camera='door\(\\\\d\)'"),
        (r"_c2(_)", r"(?s)8 problems.*anna/img_c1_1.jpg"),
        (r"img(_x)?", "16 problems"),  # matches without the group
    ],
)
def test_expressions_that_find_no_camera(tmp_path: Path, camera: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_folders(write_jpegs(tmp_path, NAMES), camera=camera)


def test_what_is_no_folder_of_people(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)does not exist.*anna/door_c1_001.jpg"):
        read_folders(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no images where"):
        read_folders(write_jpegs(tmp_path / "flat", ["a_c1.jpg"]))
    with pytest.raises(DatasetError, match="split into query, train. Expected"):
        read_folders(write_jpegs(tmp_path / "half", ["train/a/c1.jpg", "query/a/c1.jpg"]))
    with pytest.raises(DatasetError, match="folder -5"):
        read_folders(write_jpegs(tmp_path / "low", ["-5/c1.jpg", "3/c1.jpg"]))
    with pytest.raises(DatasetError, match="train_share=0.1 of 4 identities leaves 0"):
        read_folders(write_jpegs(tmp_path / "few", NAMES), train_share=0.1)


def test_a_word_that_ends_in_c_is_no_camera(tmp_path: Path) -> None:
    names = [f"{w}/pic00{i}_c{c}.jpg" for i, w in enumerate(PEOPLE) for c in (1, 2)]
    names += [f"{w}/c{c}s1_pic9.jpg" for w in PEOPLE for c in (1, 2)]
    b = read_folders(write_jpegs(tmp_path, names))
    assert set(b.gallery.camids) == {1, 2}


def test_cameras_with_folders_of_their_own(tmp_path: Path) -> None:
    names = [f"cam{c}/{who}/{i}.jpg" for who in PEOPLE for c in (1, 2) for i in (1, 2)]
    root = write_jpegs(tmp_path / "upper", names)
    with pytest.raises(
        DatasetError, match="layout=person expects them; 16 .*cam1/anna/1.jpg.*layout="
    ):
        read_folders(root)
    b = read_folders(root, layout="camera/person")
    assert [b.camera_name(c) for c in (1, 2)] == ["cam1", "cam2"] and b.person_name(1) == "anna"
    assert (len(b.train), len(b.query), len(b.gallery)) == (8, 4, 4)
    turned = write_jpegs(
        tmp_path / "lower", ["/".join([*n.split("/")[1::-1], "x.jpg"]) for n in names]
    )
    other = read_folders(turned, layout="person/camera")
    assert (other.people, other.cameras) == (b.people, b.cameras)
    with pytest.raises(
        DatasetError, match=r"layout=camera/person expects them; 1.*anna/img_c1_1\.jpg"
    ):
        read_folders(write_jpegs(tmp_path / "flat", NAMES[:1]), layout="camera/person")


@pytest.mark.parametrize("folders", ["cam1 cam2", "Camera-A Camera-B", "cam_a cam_b"])
def test_folders_called_as_cameras_are_no_people(tmp_path: Path, folders: str) -> None:
    names = [f"{folder}/{i}_c1.jpg" for folder in folders.split() for i in range(2)]
    with pytest.raises(DatasetError, match="(?s)named like cameras.*layout=camera/person"):
        read_folders(write_jpegs(tmp_path, names))


def test_what_is_skipped_is_counted(tmp_path: Path) -> None:
    root = write_jpegs(tmp_path / "shop", [*NAMES, "loose_c1.jpg", "anna/old/c1.jpg"])
    for name in ("anna/a.gif", "ben/a.gif", "ben/b.heic", "ben/Thumbs.db", "ben/.DS_Store"):
        (root / name).touch()
    b = read_folders(root)
    assert "3 files are skipped: they do not end in .jpg" in b.notes[1]
    assert not isinstance(b.notes[1], Info)
    assert "(2 .gif, 1 .heic)" in b.notes[1]
    assert "2 images are not where" in b.notes[2] and "anna/old/c1.jpg" in b.notes[2]
    twice = read_folders(write_jpegs(tmp_path / "twice", ["7/c1.jpg", "007/c2.jpg", "8/c1.jpg"]))
    assert "the folders 007, 7 are one person" in twice.notes[-1]


def test_every_kind_of_image_is_read(tmp_path: Path) -> None:
    names = [f"{who}/c{c}{suffix}" for who in PEOPLE for c, suffix in enumerate(SUFFIXES)]
    b = read_folders(write_jpegs(tmp_path, names))
    assert len(b.train) + len(b.query) + len(b.gallery) == len(names)


def test_folders_beside_the_parts_are_refused(tmp_path: Path) -> None:
    root = write_jpegs(tmp_path, [f"{part}/{name}" for part in ("train", "test") for name in NAMES])
    (root / "notes").mkdir()
    assert read_folders(root).counts()["train"]["pids"] == 4
    write_jpegs(root, [f"val/{name}" for name in NAMES])
    with pytest.raises(DatasetError, match="folder val holds images"):
        read_folders(root)
