"""CSV files of one's own images: valid contents, and the messages for invalid ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reid_lab.dataset import DatasetError, read_csv
from reid_lab.dataset.images import Decoder, check_files, decode
from reid_lab.dataset.splits import check_rankable
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate
from tests.conftest import write_jpegs

PEOPLE = ["anna", "ben", "cleo", "dora"]
PLACES = [("train", 1), ("train", 2), ("query", 1), ("gallery", 2)]
IMAGES = [(f"{who}/{door}_{i}.jpg", who, door) for who in PEOPLE for door in "xy" for i in (1, 2)]


def write_csv(root: Path, text: str, files: list[str] | None = None) -> Path:
    """Write `text` to root/images.csv, and images at `files` or the paths in it."""
    paths = [line.split(",")[0] for line in text.splitlines()[1:]] if files is None else files
    write_jpegs(root, paths)
    (root / "images.csv").write_text(text, encoding="utf-8")
    return root


def table(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


def of_people() -> str:
    return table("path,pid,camid", *(",".join(row) for row in IMAGES))


def test_people_are_divided_by_the_seed(tmp_path: Path) -> None:
    root = write_csv(tmp_path / "shop", of_people())
    b = read_csv(root, train_share=0.5)
    assert (len(b.train.identities), len(b.query.identities)) == (2, 2)
    assert not set(b.train.pids) & set(b.query.pids)
    assert [name.decode()[-7:] for name in b.query.names] == ["x_1.jpg", "y_1.jpg"] * 2
    assert [name.decode()[-7:] for name in b.gallery.names] == ["x_2.jpg", "y_2.jpg"] * 2
    check_rankable(b.name, b.query, b.gallery, b.protocol.hidden)
    assert "shop: split by train_share=0.5, seed=0: 2 of 4 identities for training" in b.notes[0]
    assert b.train.pids.tolist() == read_csv(root).train.pids.tolist()
    drawn = {tuple(read_csv(root, seed=seed).train.identities) for seed in range(20)}
    assert len(drawn) > 2
    assert len(read_csv(root, train_share=0.75).train.identities) == 3


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        (["7", "007", "0", "-1", "12"], [7, 7, 0, -1, 12]),
        (["zoe", "anna", "0", "-1", "zoe"], [2, 1, 0, -1, 2]),  # 0 and -1 keep their meaning
        (["10", "9", "b", "9", "b"], [1, 2, 3, 2, 3]),  # text sorts as text
        (["7.0", " 7", "0.0", "-1.0", "12."], [7, 7, 0, -1, 12]),  # as pandas writes them
        (["zoe", "1", "0.0", "-1.00", "1.0"], [2, 1, 0, -1, 1]),
        ([str(2**70), str(2**70 + 1), "0", "5", "1e23"], [1, 2, 0, 4, 3]),  # exact, as text
    ],
)
def test_labels_become_numbers(tmp_path: Path, pids: list[str], expected: list[int]) -> None:
    parts = ["train", "query", "gallery", "gallery", "gallery"]
    rows = [f"{i}.jpg,{pid},door-{i},{parts[i]}" for i, pid in enumerate(pids)]
    b = read_csv(write_csv(tmp_path, table("path,pid,camid,split", *rows)))
    found = np.concatenate([b.train.pids, b.query.pids, b.gallery.pids])
    assert found.tolist() == expected
    assert b.gallery.camids.tolist() == [3, 4, 5]  # door-0 is 1
    assert not b.notes


def test_cameras_and_tracklets_written_by_pandas(tmp_path: Path) -> None:
    rows = [
        f"{w}{c}{t}{i}.jpg,{w},{c}.0,{t}.{'0' * i}"  # 7. and 7.0
        for w in "ab"
        for c in "12"
        for t in "12"
        for i in (0, 1)
    ]
    b = read_csv(write_csv(tmp_path, table("path,pid,camid,tracklet", *rows)), tracklets=True)
    assert set(b.gallery.camids) == {1, 2} and not b.cameras
    assert b.counts()["query"]["tracklets"] == b.counts()["gallery"]["tracklets"] == 2


def test_names_are_kept_for_what_shows_people(tmp_path: Path) -> None:
    b = read_csv(write_csv(tmp_path, of_people()))
    names = [b.person_name(pid) for pid in sorted({*b.train.pids, *b.query.pids})]
    assert names == PEOPLE and b.camera_name(2) == "y" and b.person_name(0) == "0"
    text = table("path,pid,camid", *(",".join(row) for row in IMAGES))
    one = read_csv(write_csv(tmp_path / "one", text.replace(",y", ",x")))
    assert "from camera x" in one.notes[-1]


def test_boxes_are_clipped_on_every_side(tmp_path: Path) -> None:
    boxes = ["-4 0 4 8", "0 -3.6 8 8", "4 8 99 16", "0 8 8 99"]
    parts = ["train", "query", "gallery", "gallery"]
    rows = [f"frame.jpg,{i},{i},{parts[i]},{box}" for i, box in enumerate(boxes)]
    b = read_csv(write_csv(tmp_path, table("path,pid,camid,split,box", *rows)))
    frame = decode(tmp_path / "frame.jpg")
    wanted = {"train": frame[0:8, 0:4], "query": frame[0:8], "gallery": frame[8:, 4:]}
    for part, pixels in wanted.items():
        split = getattr(b, part)
        check_files(split)
        np.testing.assert_array_equal(decode(split.path(0), split.box(0)), pixels)


@pytest.mark.parametrize("box", ["-8 0 0 8", "0 -8 8 0", "8 0 16 8", "0 16 8 32"])
def test_boxes_wholly_outside_are_refused(tmp_path: Path, box: str) -> None:
    rows = [f"frame.jpg,1,1,train,{box}", "a.jpg,2,1,query,0 0 8 8", "b.jpg,2,2,gallery,0 0 8 8"]
    b = read_csv(write_csv(tmp_path, table("path,pid,camid,split,box", *rows)))
    message = rf"frame\.jpg: the box {box} .*outside of the image, 8 x 16"
    with pytest.raises(DatasetError, match=message):
        check_files(b.train)
    with pytest.raises(DatasetError, match=message):
        decode(b.train.path(0), b.train.box(0))


def test_distractors_and_junk_are_gallery(tmp_path: Path) -> None:
    extra = "c/0.jpg,0,x\nc/1.jpg,-1,y\n"
    b = read_csv(write_csv(tmp_path, of_people() + extra))
    assert sorted(b.gallery.pids.tolist())[:2] == [-1, 0]
    assert (b.train.pids > 0).all() and (b.query.pids > 0).all()
    assert "2 images of pid 0 or -1" in b.notes[0]


def test_train_and_test_will_do(tmp_path: Path) -> None:
    rows = [",".join([*row, "train" if row[1] < "c" else "test"]) for row in IMAGES]
    b = read_csv(write_csv(tmp_path, table("path,pid,camid,split", *rows)))
    assert b.train.identities.tolist() == [1, 2]
    assert (len(b.query), len(b.gallery)) == (4, 4)


def one_box_each() -> tuple[str, str]:
    boxes = ["0 0 4 8", "4.4 0 8 8", "0 1 8 16", "0 0 8 16"]
    parts = ["train", "query", "gallery", "gallery"]
    column = [f"frame.jpg,{i},{i},{parts[i]},{box}" for i, box in enumerate(boxes)]
    four = [line.replace(" ", ",") for line in column]
    header = "path,pid,camid,split,"
    return table(header + "box", *column), table(header + "left,top,right,bottom", *four)


@pytest.mark.parametrize("text", one_box_each(), ids=["one column", "four"])
def test_boxes_cut_people_out_of_frames(tmp_path: Path, text: str) -> None:
    b = read_csv(write_csv(tmp_path, text, ["frame.jpg"]))
    assert b.query.boxes is not None and b.query.boxes.tolist() == [[4, 0, 8, 8]]
    assert b.gallery.boxes is not None and len(b.gallery.boxes) == 2
    frame = decode(tmp_path / "frame.jpg")
    pixels = Decoder(b.query, 8, 4)[0]
    np.testing.assert_array_equal(pixels, frame[0:8, 4:8].transpose(2, 0, 1))


def test_tracklets_are_ranked_if_asked_for_and_stay_whole(tmp_path: Path) -> None:
    rows = [
        f"{w}{d}{t}{i}.jpg,{w},{d},walk-{t}" for w in "ab" for d in "xy" for t in "12" for i in "12"
    ]
    root = write_csv(tmp_path, table("path,pid,camid,tracklet", *rows))
    b = read_csv(root, tracklets=True)
    assert b.protocol.tracklets and not read_csv(root).protocol.tracklets
    assert b.counts()["query"]["tracklets"] == b.counts()["gallery"]["tracklets"] == 2
    assert (len(b.query), len(b.gallery)) == (4, 4)
    assert not set(b.query.tracks) & set(b.gallery.tracks)
    text = (root / "images.csv").read_text().replace(",y,", ",x,")
    one = read_csv(write_csv(tmp_path / "one", text), tracklets=True)
    assert one.protocol.tracklets and one.protocol.hidden == "nothing"
    with pytest.raises(DatasetError, match="needs a column tracklet"):
        read_csv(write_csv(tmp_path / "none", of_people()), tracklets=True)


def test_one_camera_is_allowed(tmp_path: Path) -> None:
    b = read_csv(write_csv(tmp_path, of_people().replace(",y", ",x")))
    assert b.protocol.hidden == "nothing"
    check_rankable(b.name, b.query, b.gallery, b.protocol.hidden)


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    text = "\ufeff" + table(" Path ,PID,camid,weather", *(f"{','.join(r)},sun" for r in IMAGES), "")
    root = write_csv(tmp_path, text, [path for path, *_ in IMAGES])
    (root / "images.csv").write_bytes(text.replace("\n", "\r\n").encode())
    b = read_csv(root)
    assert len(b.train) + len(b.query) + len(b.gallery) == len(IMAGES)
    assert "unknown columns of images.csv are ignored: weather" in b.notes[-1]


def test_absolute_paths_below_the_root(tmp_path: Path) -> None:
    root = write_csv(tmp_path, of_people())
    rows = [f"{root}/{path},{pid},{camid}" for path, pid, camid in IMAGES]
    (root / "list.csv").write_text(table("path,pid,camid", *rows))
    assert read_csv(root, "list.csv").train.names.tolist() == read_csv(root).train.names.tolist()


HEAD = "path,pid,camid"
SPLIT = "path,pid,camid,split"
BOX = "path,pid,camid,box"
WRONG = {
    "no column": (table("path,person,camid", "a.jpg,1,1"), r"line 1: no column pid; the header"),
    "semicolons": (table("path;pid;camid", "a.jpg;1;1"), r"no column path.*separated by commas"),
    "half a box": (table(f"{HEAD},left,top", "a.jpg,1,1,0,0"), r"no column right, bottom"),
    "twice": (table(f"{HEAD},pid", "a.jpg,1,1,1"), r"given twice: pid"),
    "nothing": (table(HEAD), r"no lines below"),
    "an empty file": ("", r"line 1 is empty\. Expected the names of columns, such as path, pid"),
    "an empty line": (table("", "a.jpg,1,1"), r"line 1 is empty"),
    "unknown split": (
        table(SPLIT, "a.jpg,1,1,train", "b.jpg,1,1,val"),
        r"line 3: split is 'val'; allowed: train, query, gallery",
    ),
    "no gallery": (
        table(SPLIT, "a.jpg,1,1,train", "b.jpg,1,1,query"),
        r"split into query, train",
    ),
    "empty": (table(HEAD, "a.jpg,1,1", "b.jpg,,"), r"line 3: pid, camid is empty"),
    "short": (table(HEAD, "a.jpg,1"), r"line 2: 2 values.*\n.*Expected 3 values"),
    "again": (table(HEAD, "a.jpg,1,1", "./a.jpg,2,1"), r"line 3: a.jpg repeats line 2"),
    "same box": (
        table(BOX, "a.jpg,1,1,0 0 4 4", "a.jpg,2,1,0 0 4 4"),
        r"line 3: .* repeats line 2",
    ),
    "no box": (
        table(BOX, "a.jpg,1,1,0 0 4 4", "b.jpg,2,1,"),
        r"line 3: box is empty.*box may be missing",
    ),
    "empty box": (table(BOX, "a.jpg,1,1,4 0 4 4"), r"line 2: box '4 0 4 4'.*\n.*left < right"),
    "swapped box": (table(BOX, "a.jpg,1,1,4 0 -4 4"), r"line 2: box '4 0 -4 4'"),
    "rounded away": (table(BOX, "a.jpg,1,1,0.1 0 0.4 4"), r"line 2: box '0.1 0 0.4 4'"),
    "infinite": (table(BOX, "a.jpg,1,1,0 0 inf 4"), r"line 2: box '0 0 inf 4'"),
    "huge box": (table(BOX, "a.jpg,1,1,0 0 1e30 4"), r"line 2: box '0 0 1e30 4'"),
    "spaces": (table(HEAD, 'a.jpg,"  ",1'), r"line 2: pid is empty"),
    "backslashes": (table(HEAD, "a\\1.jpg,1,1"), r"line 2: a\\1\.jpg\n.*replace the backslashes"),
    "a folder": (table(HEAD, ".,1,1"), r"line 2: \. \(a folder\)"),
    "low float": (table(HEAD, "a.jpg,-2.0,1"), r"line 2: pid -2"),
    "three sides": (table(BOX, "a.jpg,1,1,0 0 4"), r"line 2: box '0 0 4'"),
    "nan": (table(BOX, "a.jpg,1,1,0 0 nan 4"), r"line 2: box '0 0 nan 4'"),
    "outside": (table(HEAD, "../a.jpg,1,1"), r"line 2: \.\./a\.jpg\n.*Expected paths below"),
    "elsewhere": (table(HEAD, "/else/a.jpg,1,1"), r"line 2: /else/a\.jpg\n.*paths below"),
    "low pid": (table(HEAD, "a.jpg,-2,1"), r"line 2: pid -2"),
    "open quote": (table(HEAD, '"a.jpg,1,1'), r"is not a CSV file"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_errors_name_file_line_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    root = write_csv(tmp_path, text, ["a.jpg", "b.jpg"])
    with pytest.raises(DatasetError, match=rf"(?s)^{tmp_path}.*{message}"):
        read_csv(root)


def test_missing_files_are_reported_together(tmp_path: Path) -> None:
    rows = [f"{i}.jpg,{i},1" for i in range(1, 9)]
    root = write_csv(tmp_path, table(HEAD, *rows), ["1.jpg"])
    with pytest.raises(
        DatasetError, match=r"(?s)7 problems\n +line 3: 2.jpg.*line 7: 6.jpg\n +\.\.\."
    ) as e:
        read_csv(root)
    assert "7.jpg" not in str(e.value)
    with pytest.raises(DatasetError, match="does not exist.*dataset.reader.file"):
        read_csv(root, "other.csv")
    (root / "images.csv").write_bytes("path,pid,camid\na,é,1".encode("latin-1"))
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        read_csv(root)


def test_one_image_in_every_camera(tmp_path: Path) -> None:
    """All would be queries: only the first one is."""
    root = write_csv(tmp_path, table(HEAD, *(",".join(r) for r in IMAGES if "_1" in r[0])))
    b = read_csv(root)
    assert (b.query.camids.tolist(), b.gallery.camids.tolist()) == ([1, 1], [2, 2])
    check_rankable(b.name, b.query, b.gallery, b.protocol.hidden)


@pytest.mark.parametrize(("share", "train"), [(0.1, 0), (0.9, 4)])
def test_a_share_that_leaves_no_one(tmp_path: Path, share: float, train: int) -> None:
    root = write_csv(tmp_path, of_people())
    with pytest.raises(DatasetError, match=f"train_share={share} of 4 identities leaves {train} "):
        read_csv(root, train_share=share)


def test_several_boxes_of_a_frame_are_ranked_and_shown(tmp_path: Path) -> None:
    header, boxes = "path,pid,camid,split,box", ("0 0 4 16", "4 0 8 16")
    rows = [f"{part}{i}.jpg,{p},{i},{part},{boxes[p - 1]}" for part, i in PLACES for p in (1, 2)]
    b = read_csv(write_csv(tmp_path, table(header, *rows)))
    query, gallery = Ids.of(b.query), Ids.of(b.gallery)
    exits = {"x": Exit(torch.eye(2), torch.eye(2), 1)}
    found = evaluate(Embeddings(query, gallery, exits)).ranked_list("x", 1, 1)
    assert found == [{**gallery.to_dict(1), "distance": 0.0, "match": True}]
    assert found[0]["box"] == [4, 0, 8, 16]
    twice = gallery.take(torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="same image as row 0"):
        Embeddings(query, twice, exits)


def test_queries_of_distractors_and_junk_are_left_out(tmp_path: Path) -> None:
    rows = [f"{part}{i}_{pid}.jpg,{pid},{i},{part}" for part, i in PLACES for pid in (0, 1, 2, -1)]
    b = read_csv(write_csv(tmp_path, table("path,pid,camid,split", *rows)))
    assert b.query.pids.tolist() == [1, 2] and len(b.gallery) == 4
    assert "2 queries of pid 0 or -1" in b.notes[0]
