"""The first training on one's own few images: eight people in two cameras, six images each."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reid_lab.run.run import run
from tests.conftest import TINY, Compose, write_jpegs

pytestmark = pytest.mark.system

PEOPLE = ("anna", "ben", "chloé", "dan", "eva", "finn", "gül", "hans")
FEW = ("dataset.p=auto", "dataset.k=4", "model.iterations=2", "callbacks.verification=null")


def few_images(root: Path) -> Path:
    """A folder per person, cameras in the names of the files, and the same in `images.csv`."""
    rows = [
        (f"{person}/c{camera}_{number}.jpg", person, ("door", "yard")[camera - 1])
        for person in PEOPLE
        for camera in (1, 2)
        for number in range(3)
    ]
    write_jpegs(root, [path for path, *_ in rows])
    with (root / "images.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "pid", "camid"), *rows])
    return root


@pytest.mark.parametrize("dataset", ["csv", "folders"])
def test_few_people_with_names_are_trained_to_the_end(
    composed: Compose, tmp_path: Path, dataset: str
) -> None:
    root = few_images(tmp_path / "mine")
    metrics = run(composed(f"dataset={dataset}", f"dataset.root={root}", *TINY, *FEW))
    assert 0 <= metrics["test/fusion/rank1"] <= 1
    summary = json.loads((tmp_path / "run" / "results" / "summary.json").read_text())
    assert (
        "mine: dataset.p=auto: training batches of 4 identities (of 4) x 4 images"
        in (summary["notes"])
    )
