"""`reid-lab export-fiftyone`: what FiftyOne reads of a gallery and of a search."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vectors import FolderStore
from reid_lab.gallery.writer import create
from reid_lab.gallery_format.card import Card
from tests.commands import export_fiftyone as main

ROWS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Four images, one of them on the disk; two names of metadata that FiftyOne keeps."""
    paths = [str(tmp_path / f"{name}.jpg") for name in "abcd"]
    (tmp_path / "a.jpg").write_bytes(b"an image")
    columns = {"site, gate": ["north", "", "south", ""], "tags": list("1234")}
    with create(tmp_path / "g", Card("f" * 64, 3)) as writer:
        numbers = np.zeros(1, np.int64)
        writer.append_rows(
            ROWS[:1], numbers, numbers, paths[:1], {}, {n: v[:1] for n, v in columns.items()}
        )
    store = FolderStore(tmp_path / "g")
    rest = {name: values[1:] for name, values in columns.items()}
    store.add(ROWS[1:], paths[1:], ["Ann", "7", ""], ["door", "2", "2"], rest)
    return tmp_path / "g"


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """As FiftyOne's importer does: empty cells are left out, others are read by the field."""
    fields = runpy.run_path(str(folder / "load.py"))["FIELDS"]
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {*rows[0]} == {"filepath", *fields}
    return {
        Path(row.pop("filepath")).name: {n: fields[n](text) for n, text in row.items() if text}
        for row in rows
    }


def result(query: Path, **more: Any) -> str:
    row = {"query": str(query), "box": "", "images": 1, "query_pid": "Ann", "query_camid": "3"}
    match = {"pid": "Ann", "path": "/b.jpg", "distance": 0.5, "right": True}
    return json.dumps({**row, "verdict": "known", "matches": [match], **more}) + "\n"


def test_a_gallery_and_a_search(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matches = tmp_path / "m.jsonl"
    lines = [result(tmp_path / "q.jpg"), result(tmp_path / "c.jpg", matches=[], verdict="unknown")]
    matches.write_text("".join(lines), encoding="utf-8")
    out = tmp_path / "fo"
    assert main([str(gallery), "--out", str(out), "--matches", str(matches)]) == 0
    assert "4 images, 2 queries; 4 files are not on this" in " ".join(
        capsys.readouterr().out.split()
    )
    found = read(out)
    assert [*found] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "q.jpg"]
    embeddings = np.stack([found[f"{name}.jpg"].pop("embedding") for name in "abcd"])
    np.testing.assert_allclose(embeddings, SavedGallery.open(gallery).embeddings, atol=1e-5)
    assert found["b.jpg"] == {"role": "gallery", "pid": "Ann", "camid": "door", "column_tags": "2"}
    assert found["a.jpg"]["site__gate"] == "north" and "pid" not in found["d.jpg"]
    assert found["c.jpg"]["role"] == "both" and found["c.jpg"]["pid"] == "7"
    assert found["c.jpg"]["verdict"] == "unknown" and "found" not in found["c.jpg"]
    assert found["q.jpg"] == {
        "role": "query",
        "pid": "Ann",
        "camid": "3",
        "found": "Ann",
        "found_path": "/b.jpg",
        "distance": 0.5,
        "right": True,
        "verdict": "known",
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("{}\n", "line 1: not a result of reid-lab gallery search"),
        ("[]\n", "line 1: not a result"),
        ("no JSON\n", "line 1: not a result"),
        (result(Path("a.jpg")) + result(Path("a.jpg"), box="1 2 3 4"), "line 2: a.jpg is searched"),
        (result(Path("a.jpg"), images=3), "as a tracklet"),
    ],
)
def test_results_that_fiftyone_cannot_show(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "m.jsonl").write_text(text, encoding="utf-8")
    words = [str(gallery), "--out", str(tmp_path / "fo"), "--matches", str(tmp_path / "m.jsonl")]
    assert main(words) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "fo").exists()


def test_an_emptied_gallery(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emptied = shutil.copytree(gallery, tmp_path / "emptied")
    FolderStore(emptied).remove("path!=''")
    assert main([str(emptied), "--out", str(tmp_path / "fo")]) == 1
    assert "emptied has no images: add some" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "fo").exists()


def test_a_folder_that_exists_stays(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(gallery), "--out", str(gallery)]) == 1
    assert "exists: give a new folder" in capsys.readouterr().err
