"""What users confirmed and rejected, as files to calibrate and train with."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reid_lab.dataset.readers.csv_file import read_csv
from reid_lab.gallery.labels import read_labels
from reid_lab.gallery.metadata import read_gallery_images
from reid_lab.images.pixels import read_pixels
from reid_lab.serve import people_export
from reid_lab.serve.app import thumbnail
from reid_lab.serve.people import NewImage, People
from tests.commands import export_people as main
from tests.serve.network import EXITS, Colours


def jpeg(colour: int) -> bytes:
    return thumbnail(np.full((64, 32, 3), colour, np.uint8))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def people(tmp_path: Path) -> People:
    """Two people, an image without a thumbnail, a confirmed and a rejected match."""
    found = People.open(tmp_path / "p.sqlite", Colours().manifest, "euclidean")
    rows = {e.name: np.eye(e.dim, dtype=np.float32)[:1] for e in EXITS}
    found.add("Ann Lee", [NewImage("north", "", jpeg(10))], rows)
    found.add("../b'en", [NewImage("", "", jpeg(200))], rows)
    found.add("Ann Lee", [NewImage("south")], rows)
    found.label("Ann Lee", True, "late", 0.25, jpeg(40))
    found.label("Ann Lee", False, "early", 0.5, jpeg(250))
    return found


def test_a_running_service_s_people_are_written(
    tmp_path: Path, people: People, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labelled"
    assert main([str(tmp_path / "p.sqlite"), "--out", str(out)]) == 0  # `people` has it open
    told = " ".join(capsys.readouterr().out.split())
    assert "2 enrolled images, 1 confirmed and 1 rejected matches; 1 images have no" in told
    images, labels = table(out / "images.csv"), table(out / "labels.csv")
    assert [(r["pid"], r["camid"], r["source"]) for r in images] == [
        ("Ann Lee", "north", "enrolled"),
        ("../b'en", "unknown", "enrolled"),
        ("Ann Lee", "unknown", "confirmed"),
    ]
    assert [(r["pid"], r["correct"], r["exit"], r["distance"]) for r in labels] == [
        ("Ann Lee", "1", "late", "0.25"),
        ("Ann Lee", "0", "early", "0.5"),
    ]
    shades = [int(read_pixels(out / row["path"]).mean()) for row in (*images, labels[1])]
    assert shades == pytest.approx([10, 200, 40, 250], abs=3)
    people.close()


def test_galleries_and_trainings_read_it(tmp_path: Path, people: People) -> None:
    people.close()
    out = tmp_path / "labelled"
    assert main([str(tmp_path / "p.sqlite"), "--out", str(out)]) == 0
    listed, *_ = read_gallery_images(out / "images.csv")
    assert [image.person for image in listed] == ["Ann Lee", "../b'en", "Ann Lee"]
    labels = read_labels(out / "labels.csv")
    found = [(image.person, image.values["correct"]) for image in labels]
    assert found == [("Ann Lee", "1"), ("Ann Lee", "0")]
    data = read_csv(out, train_share=0.5)
    known = {*data.train.pids.tolist(), *data.query.pids.tolist(), *data.gallery.pids.tolist()}
    assert known == {1, 2}


@pytest.mark.parametrize(
    "given", ["missing.sqlite", "text.sqlite", "empty.sqlite", "out", "folder"]
)
def test_what_cannot_be_exported_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    (tmp_path / "text.sqlite").write_text("no database, but text that is long enough to be one")
    People.open(tmp_path / "empty.sqlite", Colours().manifest, "euclidean").close()
    out = tmp_path / "out"
    (tmp_path / "folder").mkdir()
    if given == "out":
        out.mkdir()
    assert main([str(tmp_path / given), "--out", str(out)]) == 1
    says = {
        "missing.sqlite": "does not exist",
        "folder": "is a folder",
        "text.sqlite": "is not a file of people",
        "empty.sqlite": "has no images",
        "out": "exists: give a new folder",
    }
    assert says[given] in " ".join(capsys.readouterr().err.split())
    assert given == "out" or not out.exists()


def test_a_file_that_another_process_holds_is_told(
    tmp_path: Path,
    people: People,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(people_export, "WAIT_SECONDS", 0.05)
    people.close()
    with closing(sqlite3.connect(tmp_path / "p.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        assert main([str(tmp_path / "p.sqlite"), "--out", str(tmp_path / "out")]) == 1
    assert "another process holds" in " ".join(capsys.readouterr().err.split())
