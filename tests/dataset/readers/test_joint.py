"""Joint training on miniature data sets in Market-1501's layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate

from reid_lab.dataset import (
    Benchmark,
    DatasetError,
    Split,
    read_csv,
    read_folders,
    read_joint,
    read_layout,
)
from reid_lab.dataset.readers.joint import TrainedOn
from reid_lab.protocol import Protocol
from tests.conftest import Compose, write_jpegs

FIRST = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0007_c2s3_077419_03.jpg",
    "query/0009_c1s1_001051_00.jpg",
    "bounding_box_test/0009_c2s1_000901_01.jpg",
]
SECOND = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/-1_c6s1_000451_03.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c3s1_000901_01.jpg",
    "bounding_box_test/0000_c1s1_000151_01.jpg",
    "bounding_box_test/-1_c2s1_000401_03.jpg",
]
Parts = dict[str, Callable[[], Benchmark]]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    write_jpegs(tmp_path / "a", FIRST)
    write_jpegs(tmp_path / "deep" / "b", SECOND)
    roots = {"first": tmp_path / "a", "second": tmp_path / "deep" / "b"}
    return {name: partial(read_layout, root, name) for name, root in roots.items()}


def test_everyone_trains_and_one_part_is_ranked(tmp_path: Path, parts: Parts) -> None:
    joint = read_joint(tmp_path, parts, "second")
    assert joint.train.pids.tolist() == [2, 7, -1, 9 + 2]
    assert joint.query.pids.tolist() == [9 + 1]
    assert sorted(joint.gallery.pids.tolist()) == [-1, 0, 9 + 1]
    assert joint.train.camids.tolist() == [1, 2, 3 + 6, 3 + 1]
    assert joint.query.camids.tolist() == [3 + 1]
    for split in (joint.train, joint.query, joint.gallery):
        assert split.root == tmp_path
        assert all(split.path(index).is_file() for index in range(len(split)))
    assert joint.train.path(0) == tmp_path / "a" / FIRST[0]
    Split.concatenate(joint.query, joint.gallery)  # as the loaders do


def test_the_whole_of_a_part_is_trained_on(tmp_path: Path, parts: Parts) -> None:
    """JLML, section 3; distractors and junk are nobody to train on."""
    third = ["bounding_box_train/0003_c1s1_000451_03.jpg", *SECOND[2:]]
    parts["third"] = partial(read_layout, write_jpegs(tmp_path / "c", third), "third")
    shares: dict[str, TrainedOn] = {"second": "whole", "first": "nothing"}
    joint = read_joint(tmp_path, parts, "third", shares)
    assert "first" not in joint.name and set(joint.query.names) == {b"c/" + third[1].encode()}
    trained = [name.decode().removeprefix("deep/b/") for name in joint.train.names]
    assert sorted(trained) == sorted([SECOND[0], SECOND[2], SECOND[3], "c/" + third[0]])
    assert not set(joint.train.pids) & set(joint.query.pids)
    assert joint.notes == ("trained on the whole of second, test images included",)


def test_a_query_that_is_in_the_gallery_too_is_trained_on_once(
    tmp_path: Path, parts: Parts
) -> None:
    second = parts["second"]()
    gallery = Split.concatenate(second.gallery, second.query)
    parts["second"] = lambda: replace(second, gallery=gallery)
    joint = read_joint(tmp_path, parts, "first", {"second": "whole", "first": "nothing"})
    assert sorted(joint.train.pids.tolist()) == [10, 10, 11]


def test_the_whole_of_a_part_has_all_people_of_a_file(tmp_path: Path) -> None:
    """Several boxes of a file are several images; a box that is there twice is one."""
    lines = ["path,pid,camid,split,box"]
    for frame, part in (("a", "train"), ("b", "query"), ("c", "gallery")):
        lines += [
            f"{frame}.jpg,{pid},{ord(frame)},{part},{4 * pid} 0 {4 * pid + 4} 8" for pid in (1, 2)
        ]
    reading: Parts = {}
    for name in ("first", "second"):
        root = write_jpegs(tmp_path / name, ["a.jpg", "b.jpg", "c.jpg"])
        (root / "images.csv").write_text("\n".join(lines))
        reading[name] = partial(read_csv, root)
    second = reading["second"]()
    gallery = Split.concatenate(second.gallery, second.query)
    reading["second"] = lambda: replace(second, gallery=gallery)
    joint = read_joint(tmp_path, reading, "first", {"first": "nothing", "second": "whole"})
    assert joint.train.pids.tolist() == [3, 4] * 3
    assert [name[-5:] for name in joint.train.names] == [b"a.jpg"] * 2 + [b"b.jpg"] * 2 + [
        b"c.jpg"
    ] * 2


def test_parts_that_are_neither_trained_on_nor_ranked_are_not_read(
    tmp_path: Path, parts: Parts
) -> None:
    parts["absent"] = partial(read_layout, tmp_path / "no", "absent")
    joint = read_joint(tmp_path, parts, "second", {"absent": "nothing"})
    assert (
        joint.train.pids.tolist()
        == read_joint(
            tmp_path, {n: parts[n] for n in ("first", "second")}, "second"
        ).train.pids.tolist()
    )


def test_what_train_on_may_say(tmp_path: Path, parts: Parts) -> None:
    with pytest.raises(DatasetError, match=r"train_on: third; available: first, second"):
        read_joint(tmp_path, parts, "second", {"third": "whole"})
    with pytest.raises(DatasetError, match=r"train_on\.second=whole trains on the images that are"):
        read_joint(tmp_path, parts, "second", {"second": "whole"})
    with pytest.raises(DatasetError, match="leaves nothing to train on: set train or whole"):
        read_joint(tmp_path, parts, "second", {"first": "nothing", "second": "nothing"})


def test_the_first_part_keeps_its_numbers(tmp_path: Path, parts: Parts) -> None:
    joint, alone = read_joint(tmp_path, parts, "first"), parts["first"]()
    for ours, theirs in ((joint.query, alone.query), (joint.gallery, alone.gallery)):
        assert ours.pids.tolist() == theirs.pids.tolist()
        assert ours.camids.tolist() == theirs.camids.tolist()
    assert "first" in joint.name
    assert joint.name != read_joint(tmp_path, parts, "second").name


def test_protocol_notes_and_multi_query_images_are_kept(tmp_path: Path, parts: Parts) -> None:
    second = parts["second"]()
    protocol = Protocol(hidden="same_camera", shots=1, trials=3)
    parts["second"] = lambda: replace(
        second, protocol=protocol, multi_query=second.query, notes=("odd",)
    )
    joint = read_joint(tmp_path, parts, "second")
    assert joint.protocol == protocol
    assert joint.notes == ("odd",)
    assert joint.multi_query is not None
    assert joint.multi_query.pids.tolist() == joint.query.pids.tolist() == [10]
    assert joint.multi_query.path(0).is_file()
    assert read_joint(tmp_path, parts, "first").multi_query is None


def test_people_of_a_part_are_no_other_parts(tmp_path: Path, parts: Parts) -> None:
    joint = read_joint(tmp_path, parts, "second")
    assert not set(joint.train.identities) & set(joint.query.identities)
    alone = parts["second"]()
    parts["second"] = lambda: replace(alone, train=alone.query)
    joint = read_joint(tmp_path, parts, "second")
    assert joint.query.pids[0] in joint.train.pids  # one part's relations stay


def test_people_and_cameras_keep_their_names(tmp_path: Path, parts: Parts) -> None:
    joint = read_joint(tmp_path, parts, "second")
    assert [joint.person_name(pid) for pid in (-1, 7, 9 + 2)] == ["-1", "7", "2 of second"]
    assert [joint.camera_name(camid) for camid in (1, 3 + 6)] == ["1", "6 of second"]
    names = [f"{who}/c{c}_{i}.jpg" for who in ("zoe", "anna") for c in (1, 2) for i in (1, 2)]
    parts["third"] = partial(read_folders, write_jpegs(tmp_path / "c", names))
    joint = read_joint(tmp_path, parts, "third")
    assert {joint.person_name(joint.query.pids[0]), joint.person_name(joint.train.pids[-1])} == {
        "zoe",
        "anna",
    }


def test_cameras_below_zero_stay_apart(tmp_path: Path, parts: Parts) -> None:
    whole = parts["second"]()
    low = replace(whole, query=replace(whole.query, camids=whole.query.camids - 9))
    joint = read_joint(tmp_path, {**parts, "second": lambda: low}, "second")
    cameras = [parts["first"]().train.camids, parts["first"]().gallery.camids]
    assert not set(joint.query.camids) & set(np.concatenate(cameras))


def test_errors(tmp_path: Path, parts: Parts) -> None:
    with pytest.raises(DatasetError, match=r"test='third': set.*first, second"):
        read_joint(tmp_path, parts, "third")
    with pytest.raises(DatasetError, match=r"parts first and again are both .*/a:"):
        read_joint(tmp_path, {**parts, "again": parts["first"]}, "first")
    boxed = parts["first"]()
    boxes = np.zeros((len(boxed.train), 4), np.int32)
    boxed = replace(boxed, train=replace(boxed.train, boxes=boxes))
    with pytest.raises(DatasetError, match=r"first have boxes, second have whole"):
        read_joint(tmp_path, {**parts, "first": lambda: boxed}, "second")


def test_every_missing_part_is_reported(tmp_path: Path) -> None:
    parts = {name: partial(read_layout, tmp_path / name, name) for name in ("no", "nor")}
    with pytest.raises(DatasetError, match=r"(?s)part no .*parts\.no.*part nor .*parts\.nor"):
        read_joint(tmp_path, parts, "no")


def test_the_config_gives_the_parts_their_folders(composed: Compose, tmp_path: Path) -> None:
    write_jpegs(tmp_path / "cuhk03-np" / "detected", FIRST)
    write_jpegs(tmp_path / "elsewhere", SECOND)
    cfg = composed(
        "dataset=joint",
        f"dataset.root={tmp_path}",
        f"dataset.reader.parts.market1501.root={tmp_path / 'elsewhere'}",
    )
    joint = instantiate(cfg.dataset).benchmark
    assert joint.train.pids.tolist() == [2, 7, -1, 9 + 2]
    assert joint.query.path(0) == tmp_path / "elsewhere" / SECOND[2]


def test_jlmls_second_step_is_on_all_of_two_data_sets(composed: Compose) -> None:
    for test in ("viper", "grid"):
        joint = ("+experiment=jlml_market", "dataset=joint_whole")
        cfg = composed(*joint, f"dataset.reader.test={test}", "dataset.root=/r")
        reader = cfg.dataset.reader
        assert reader.train_on == {
            "cuhk03_np": "whole",
            "market1501": "whole",
            "viper": "nothing",
            "grid": "nothing",
        }
        assert set(reader.parts) == set(reader.train_on)
