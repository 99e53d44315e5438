"""A stranger's way: ten people enrolled, an eleventh unknown, two cameras linked, one removed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reid_lab.gallery.store import SavedGallery
from tests.commands import gallery
from tests.launcher import Launcher, Starter
from tests.undrawn import UNDRAWN

pytestmark = pytest.mark.system
# the demo at half its image size, with fewer people, none of whom looks like another on purpose
DEMO = (
    *("+experiment=demo", "threads=1", "model.iterations=200", "trainer.val_check_interval=200"),
    *("dataset.transforms.height=64", "dataset.transforms.width=32", "logger=null"),
    *("dataset.recipe.height=64", "dataset.recipe.width=32", "dataset.recipe.cameras=3"),
    *("dataset.recipe.train_identities=100", "dataset.recipe.test_identities=20"),
    *("dataset.recipe.distractors=0", "dataset.recipe.junk=0", "dataset.recipe.lookalikes=0"),
)
TEN = [f"{pid:04}" for pid in range(2, 21, 2)]
STRANGER = "0030"  # farther from all ten than 1.5 times the threshold
PLAIN = ("0004", "0006", "0016")  # nearer to themselves than 0.6 times the threshold
RATE = ("--false-accept-rate", 0.05)


@pytest.fixture
def trained(starter: Launcher | Starter, tmp_path: Path) -> Path:
    """The checkpoint of a short training on the people in `people`."""
    words = [*DEMO, f"run_dir={tmp_path / 'run'}", f"dataset.root={tmp_path / 'people'}"]
    process = starter.start("reid_lab", words, tmp_path, tmp_path / "printed.txt", UNDRAWN)
    assert process.wait(900) == 0, process.text()
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


def copied(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)


def run(*words: object) -> None:
    assert gallery([str(word) for word in words]) == 0


def searched(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Name of a query's file -> its answer."""
    network = ("--checkpoint", checkpoint)
    run("search", "gallery", *network, "--image", "queries", *RATE, "--out", "found.jsonl")
    answers = map(json.loads, Path("found.jsonl").read_text("utf-8").splitlines())
    return {Path(answer["query"]).name: answer for answer in answers}


def test_ten_people_are_known_and_an_eleventh_is_not(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in sorted((tmp_path / "people" / "bounding_box_test").glob("*.jpg")):
        pid, camera = path.name[:4], path.name[6]
        if pid in TEN:
            copied(path, tmp_path / "known")
            if camera in "12":
                copied(path, tmp_path / f"camera{camera}" / pid)
    for path in sorted((tmp_path / "people" / "query").glob("*.jpg")):
        if path.name[:4] in (*TEN, STRANGER):
            copied(path, tmp_path / "queries")

    run("build", "--checkpoint", trained, "--images", "known", "--out", "gallery")
    run("calibrate", "gallery")
    found = searched(trained)
    of_stranger = [answer for name, answer in found.items() if name.startswith(STRANGER)]
    assert [answer["verdict"] for answer in of_stranger] == ["unknown"] * 2
    for name, answer in found.items():
        if name.startswith(PLAIN):
            said = answer["verdict"], answer["verdict_pids"], answer["matches"][0]["right"]
            assert said == ("known", name[:4], True)
    of_the_ten = [a for name, a in found.items() if not name.startswith(STRANGER)]
    right = [a["verdict"] != "unknown" and a["matches"][0]["right"] for a in of_the_ten]
    assert len(right) == 26 and sum(right) >= 20

    pair = ("camera1", "camera2", "--checkpoint", trained, "--gallery", "gallery", *RATE)
    run("link", *pair, "--out", "links.csv")
    with Path("links.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    linked = {row["a"]: row["b"] for row in rows if row["linked"] == "True"}
    assert linked == {pid: pid for pid in ("0004", "0006", "0010", "0014", "0016", "0018")}
    nobody = {row["a"] or row["b"] for row in rows if row["linked"] == "False"}
    assert nobody == {"0002", "0008", "0012", "0020"}  # in one of the two cameras

    before = len(SavedGallery.open("gallery"))
    run("remove", "gallery", "--pid", 4)
    left = SavedGallery.open("gallery")
    assert len(left) == before - 9 and "0004" not in left.names_of("pid")
    assert not [path for path in left.paths() if Path(path).name.startswith("0004")]
    for name, answer in searched(trained).items():
        assert "0004" not in [match["pid"] for match in answer["matches"]], name
