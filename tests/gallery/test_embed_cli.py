"""`reid-lab embed`: folders, CSV files and frames with boxes, to .npz and .parquet."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reid_lab
from reid_lab.checkpoint import fingerprint
from reid_lab.errors import UserError
from reid_lab.gallery.embedded_file import allocate
from reid_lab.model import ReidModule
from reid_lab.output.console import stderr, stdout
from tests.commands import embed as main
from tests.commands import gallery as gallery_main
from tests.conftest import write_jpegs

NAMES = ["0002_c1s1_1.jpg", "0002_c2s1_2.jpg", "deep/0007_c1s1_3.jpg"]
BOXES = [[0, 0, 30, 60], [8, 4, 40, 70]]
Run = Callable[..., str]


@pytest.fixture
def run(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run the command in `tmp_path`, where `images` are; everything that it prints."""
    monkeypatch.chdir(tmp_path)
    write_jpegs(tmp_path / "images", NAMES, (80, 50))
    for console in (stdout, stderr):
        monkeypatch.setattr(console, "_width", 200)

    def call(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        returned = main(["--checkpoint", str(checkpoint), *map(str, words)])
        printed = "".join(capsys.readouterr())
        assert returned == status, printed
        assert "Traceback" not in printed
        return printed

    return call


def npz(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def csv(path: str, *lines: str) -> Path:
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)


@pytest.mark.parametrize("batch", [64, 2])
def test_a_folder(batch: int, run: Run, model: ReidModule, checkpoint: Path) -> None:
    printed = run("--images", "images", "--out", "deep/out.npz", "--batch-size", batch)
    assert "deep/out.npz: 3 images; exits stage1" in printed
    found = npz("deep/out.npz")
    wanted = reid_lab.embed(model, "images")
    labels = {"paths", "pids", "camids", "fingerprint"}
    assert found.keys() == {*model.exit_names} | labels
    for name, rows in wanted.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], rows, atol=1e-5)
    assert found["paths"].tolist() == [str(Path("images", name).absolute()) for name in NAMES]
    assert found["pids"].tolist() == [2, 2, 7] and found["camids"].tolist() == [1, 2, 1]
    assert found["fingerprint"] == fingerprint(checkpoint)


def test_chosen_exits(run: Run) -> None:
    run("--images", "images", "--out", "o.npz", "--exit", "stage2", "--exit", "stage1")
    assert {"stage1", "stage2"} <= npz("o.npz").keys() and "stage3" not in npz("o.npz")


@pytest.mark.parametrize(
    ("pattern", "pids"),
    [
        ("(?P<pid>x)?", None),
        ("", None),
        (r"(?P<pid>c\ds1_\d)", ["c1s1_1", "c2s1_2", "c1s1_3"]),
        (r"000(?P<pid>2)", [2, 2, -2]),
        (r"_(?P<pid>c2)", ["", "c2", ""]),
    ],
)
def test_people_of_a_folder(pattern: str, pids: list[Any] | None, run: Run) -> None:
    run("--images", "images", "--out", "o.npz", "--pattern", pattern)
    found = npz("o.npz")
    assert (found["pids"].tolist() if "pids" in found else None) == pids
    assert "camids" not in found


def test_an_image(run: Run, model: ReidModule) -> None:
    path = Path("images", NAMES[0])
    run("--images", path, "--out", "o.npz")
    found = npz("o.npz")
    assert found.keys() == {*model.exit_names, "paths", "fingerprint"}
    np.testing.assert_allclose(found["stage1"], reid_lab.embed(model, path)["stage1"], atol=1e-5)


def test_a_frame_with_boxes(run: Run, model: ReidModule) -> None:
    path = Path("images", NAMES[0])
    boxes = csv("boxes.csv", "tracklet,left,top,right,bottom", "7,0,0,30,60", "8,8.2,4,40,70")
    run("--images", path, "--boxes", boxes, "--out", "o.npz", "--exit", "stage2")
    found = npz("o.npz")
    assert found["boxes"].tolist() == BOXES and found["tracklets"].tolist() == [7, 8]
    assert found["paths"].tolist() == [str(path.absolute())] * 2
    wanted = reid_lab.embed(model, path, BOXES, exits="stage2")["stage2"]
    np.testing.assert_allclose(found["stage2"], wanted, atol=1e-5)


LIST = (
    "path,pid,camid,tracklet,box",
    f"images/{NAMES[0]},anna,7,1,0 0 30 60",
    f"images/{NAMES[0]},anna,7,1,8 4 40 70",
    f"images/{NAMES[1]},ben,7,1,0 0 50 80",
    f"images/{NAMES[2]},anna,7,1,-5 -5 20 20",
)


def test_a_csv_file(run: Run, model: ReidModule) -> None:
    run("--images", csv("list.csv", *LIST), "--out", "o.npz", "--batch-size", 3)
    found = npz("o.npz")
    assert found["pids"].tolist() == ["anna", "anna", "ben", "anna"]
    assert found["camids"].tolist() == [7] * 4 and found["tracklets"].tolist() == [1] * 4
    assert found["boxes"][3].tolist() == [-5, -5, 20, 20]
    wanted = reid_lab.embed(model, Path("images", NAMES[0]), BOXES)["fusion"]
    np.testing.assert_allclose(found["fusion"][:2], wanted, atol=1e-5)
    last = reid_lab.embed(model, Path("images", NAMES[2]), [[0, 0, 20, 20]])["fusion"]
    np.testing.assert_allclose(found["fusion"][3:], last, atol=1e-5)


def test_a_csv_file_of_paths_alone(run: Run, tmp_path: Path) -> None:
    elsewhere = write_jpegs(tmp_path / "elsewhere", ["x.jpg"]) / "x.jpg"
    Path("lists").mkdir()
    lines = ("path", f"../images/{NAMES[0]}", str(elsewhere))
    run("--images", csv("lists/list.csv", *lines), "--out", "o.npz")
    assert npz("o.npz")["paths"].tolist() == [
        str(Path("images", NAMES[0]).absolute()),
        str(elsewhere),
    ]


def test_tracklets_are_pooled(run: Run) -> None:
    words = ("--images", csv("list.csv", *LIST))
    run(*words, "--out", "images.npz")
    printed = run(*words, "--out", "o.npz", "--pool", "tracklet")
    assert "4 images in 2 tracklets" in printed
    found, single = npz("o.npz"), npz("images.npz")
    assert found["pids"].tolist() == ["anna", "ben"] and "boxes" not in found
    assert found["paths"].tolist() == single["paths"][[0, 2]].tolist()
    for name in ("stage1", "fusion"):
        wanted = np.stack([single[name][[0, 1, 3]].mean(0), single[name][2]])
        np.testing.assert_allclose(found[name], wanted, atol=1e-6)


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_pooled_tracklets_search_as_a_search_that_pools(
    ending: str, run: Run, checkpoint: Path
) -> None:
    words = ["build", "--images", "images", "--out", "g", "--metric", "cosine"]
    assert gallery_main([*words, "--checkpoint", str(checkpoint)]) == 0
    table = csv("list.csv", "path,tracklet", *(f"images/{n},{i // 2}" for i, n in enumerate(NAMES)))
    run("--images", table, "--out", f"q.{ending}", "--pool", "tracklet", "--metric", "cosine")
    search = ["search", "g", "--top", "3", "--checkpoint", str(checkpoint), "--image"]
    assert gallery_main([*search, f"q.{ending}", "--out", "a.jsonl"]) == 0
    pool = ["--pool", "tracklet", "--out", "b.jsonl"]
    assert gallery_main([*search, str(table), *pool]) == 0
    ours, theirs = (
        [json.loads(line)["matches"] for line in Path(name).read_text("utf-8").splitlines()]
        for name in ("a.jsonl", "b.jsonl")
    )
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert [match["path"] for match in one] == [match["path"] for match in other]
        far, wanted = ([match["distance"] for match in found] for found in (one, other))
        assert far == pytest.approx(wanted, abs=1e-6)


def test_tracklets_pooled_for_another_metric_are_refused(
    run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", "--images", "images", "--out", "g", "--metric", "cosine"]
    assert gallery_main([*words, "--checkpoint", str(checkpoint)]) == 0
    run("--images", csv("list.csv", *LIST), "--out", "q.npz", "--pool", "tracklet")
    capsys.readouterr()
    for words in (
        ["search", "g", "--image", "q.npz"],
        ["link", "q.npz", "q.npz", "--gallery", "g", "--threshold", "1"],
        ["evaluate", "q.npz", "--metric", "cosine"],
    ):
        assert gallery_main(words) == 1
        said = " ".join("".join(capsys.readouterr()).split())
        assert "q.npz has tracklets that were pooled for euclidean distances" in said
        assert "--pool tracklet --metric cosine" in said
    assert "give --pool tracklet, too" in run(
        "--images", "images", "--out", "o.npz", "--metric", "cosine", status=1
    )


@pytest.mark.parametrize("strict", [False, True])
def test_broken_images_are_left_out(strict: bool, run: Run) -> None:
    Path("images/broken.jpg").write_bytes(b"\xff\xd8 broken")
    lines = (*LIST, "images/broken.jpg,c,7,1,0 0 9 9", f"images/{NAMES[1]},c,7,1,50 0 60 9")
    words = ("--images", csv("list.csv", *lines), "--out", "o.npz")
    printed = run(*words, *["--strict"] * strict, status=int(strict))
    assert "4 images, 2 left out" in printed
    assert "broken.jpg cannot be read" in printed and "box 50 0 60 9" in printed
    assert len(npz("o.npz")["paths"]) == len(npz("o.npz")["stage1"]) == 4


def test_parquet(run: Run, checkpoint: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ("--images", csv("list.csv", *LIST))
    run(*words, "--out", "o.npz")
    run(*words, "--out", "o.parquet")
    wanted, table = npz("o.npz"), parquet.read_table("o.parquet")
    assert table.schema.metadata[b"fingerprint"].decode() == fingerprint(checkpoint)
    columns = table.to_pydict()
    boxes = [columns.pop(side) for side in ("left", "top", "right", "bottom")]
    np.testing.assert_array_equal(np.transpose(boxes), wanted.pop("boxes"))
    del wanted["fingerprint"]
    labels = {"paths": "path", "pids": "pid", "camids": "camid", "tracklets": "tracklet"}
    assert columns.keys() == {labels.get(name, name) for name in wanted}
    for name, values in wanted.items():
        np.testing.assert_array_equal(
            np.array(columns[labels.get(name, name)], values.dtype), values
        )


def test_parquet_needs_pyarrow(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    printed = run("--images", "nowhere", "--out", "o.parquet", status=1)
    assert "writing .parquet needs pyarrow" in printed and "pip install pyarrow" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images", "nowhere"), "nowhere does not exist"),
        (("--images", "nowhere.csv"), "nowhere.csv does not exist"),
        (("--images", "empty"), "empty has no image"),
        (("--images", "images", "--exit", "stage9"), "unknown exit 'stage9'.*available: stage1, "),
        (("--images", "images", "--out", "o.csv"), r"o\.csv: the name must end in \.npz or"),
        (("--images", "images", "--out", "folder.npz"), "folder.npz is a folder"),
        (("--images", "images", "--out", "l.csv/a/o.npz"), "l.csv is not a folder with write"),
        (("--images", "images", "--boxes", "b.csv"), "images is a folder: give an image"),
        (("--images", "l.csv", "--boxes", "b.csv"), "l.csv is a CSV file: give an image"),
        (("--images", "l.csv", "--pattern", "x"), "--pattern is for a folder"),
        (("--images", "images", "--pool", "tracklet"), "images has none: give a CSV file"),
        (("--images", f"images/{NAMES[0]}", "--boxes", "nowhere"), "nowhere does not exist"),
        (("--images", f"images/{NAMES[0]}", "--boxes", "l.csv"), "no column box, or columns left"),
        (("--images", f"images/{NAMES[0]}", "--boxes", "b.csv"), "line 2: box 'nan 0 1 1'"),
        (("--images", "b.csv"), "no column path.*Expected.* path; optional: pid, camid, tracklet"),
        (("--images", "l.csv"), "line 2: none.jpg"),
    ],
)
def test_errors_before_any_work(
    words: tuple[str, ...], message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("empty", "folder.npz"):
        Path(folder).mkdir()
    csv("l.csv", "path", "none.jpg")
    csv("b.csv", "left,top,right,bottom", "nan,0,1,1")
    monkeypatch.setattr("reid_lab.gallery.embedded_file.embed_pixels", None)
    out = () if "--out" in words else ("--out", "o.npz")
    printed = run(*words, *out, status=1)
    assert printed.count("error: ") == 1
    assert re.search(message, printed, re.DOTALL), printed
    assert not Path("o.npz").exists()


def test_embeddings_larger_than_memory() -> None:
    with pytest.raises(UserError, match=r"10,000,000 .* do not fit in memory: choose fewer exits"):
        allocate(10**7, 10**7)


def test_nothing_is_written_if_no_image_can_be_read(run: Run) -> None:
    Path("bad").mkdir()
    Path("bad/x.jpg").write_bytes(b"\xff\xd8 broken")
    printed = run("--images", "bad", "--out", "o.npz", status=1)
    assert "none of 1 images could be read: o.npz is not written" in printed
    assert not Path("o.npz").exists()
