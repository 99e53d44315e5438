"""ATRW, on a miniature release with the true folders, names and annotations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid_lab.dataset import DatasetError, read_atrw
from reid_lab.dataset.splits import check_rankable
from tests.conftest import write_jpegs

LIST = "0,000003.jpg\n12,000007.jpg\n12,000010.jpg\n"
# image, identity, scene, camera, frame, query group
TEST = [
    (0, 4, 23, 4, 657, "sing"),
    (4, 5, 31, 4, 1089, "multi"),
    (15, 5, 31, 4, 1100, "multi"),
    (4096, 5, 17, 7, 120, "multi"),
]
EXTRACTED = (
    "atrw_reid_train/train",
    "atrw_anno_reid_train/reid_list_train.csv",
    "atrw_reid_test/test",
    "ATRWEvalScript-main/annotations/gt_test_plain.json",
)
DIRECT = ("train", "reid_list_train.csv", "test", "gt_test_plain.json")


def write(root: Path, places: tuple[str, ...] = DIRECT, listed: str = LIST) -> Path:
    train, lines, test, truth = places
    write_jpegs(root / train, ["000003.jpg", "000007.jpg", "000010.jpg", "000011.jpg"])
    write_jpegs(root / test, [f"{image:06d}.jpg" for image, *_ in TEST])
    for place in (lines, truth):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / lines).write_text(listed)
    rows = [
        {"query": query, "entityid": pid, "frame": [scene, camera, frame], "imgid": image}
        for image, pid, scene, camera, frame, query in TEST
    ]
    (root / truth).write_text(json.dumps(rows))
    return root


@pytest.mark.parametrize("places", [EXTRACTED, DIRECT])
def test_identities_cameras_and_queries(tmp_path: Path, places: tuple[str, ...]) -> None:
    benchmark = read_atrw(write(tmp_path, places))
    assert benchmark.train.pids.tolist() == [1, 13, 13]  # 000011 has no identity
    assert benchmark.train.path(1) == tmp_path / places[0] / "000007.jpg"
    assert benchmark.gallery.pids.tolist() == [5, 6, 6, 6]
    assert len(set(benchmark.gallery.camids[1:3].tolist())) == 1
    assert len(set(benchmark.gallery.camids.tolist())) == 3
    assert benchmark.camera_name(benchmark.gallery.camids[0]) == "scene 23, camera 4"
    assert benchmark.query.names.tolist() == benchmark.gallery.names[1:].tolist()
    check_rankable("atrw", benchmark.query, benchmark.gallery, benchmark.protocol.hidden)
    assert "query images: expected 1,063, found 3" in benchmark.notes[0]


@pytest.mark.parametrize("line", ["tiger,000003.jpg", "12", "-1,000003.jpg", "1,../x.jpg", ""])
def test_malformed_list(tmp_path: Path, line: str) -> None:
    with pytest.raises(DatasetError, match=r"reid_list_train\.csv(, line 1: | is empty)"):
        read_atrw(write(tmp_path, listed=f"{line}\n"))


@pytest.mark.parametrize(
    "content",
    ["", "{}x", "7", '[{"imgid": 0}]', '[{"imgid": 0, "entityid": "a", "frame": [1, 2, 3]}]'],
)
def test_malformed_annotations(tmp_path: Path, content: str) -> None:
    (write(tmp_path) / "gt_test_plain.json").write_text(content)
    with pytest.raises(DatasetError, match=r"gt_test_plain\.json: expected a list of imgid"):
        read_atrw(tmp_path)


def test_test_images_without_annotations(tmp_path: Path) -> None:
    write_jpegs(write(tmp_path) / "test", ["000099.jpg"])
    with pytest.raises(DatasetError, match=r"'000099\.jpg' is not in .*gt_test_plain"):
        read_atrw(tmp_path)


def test_missing_parts_show_the_layout(tmp_path: Path) -> None:
    (write(tmp_path) / "gt_test_plain.json").unlink()
    with pytest.raises(DatasetError, match=r"(?s)has no ATRWEvalScript.*12,000001\.jpg"):
        read_atrw(tmp_path)
