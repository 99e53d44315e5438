"""What a run leaves in its folder: tables as CSV, the rest as JSON, each written whole.

A test writes its results beside those of an earlier one and takes their place when it has all of
them, so that a test that is killed, or a reader meanwhile, never finds a part. `summary.json` is
the last file: a folder that has it is whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from reid_lab.files.atomic import replacing

RESULTS, NEW, OLD = "results", "results.new", "results.old"
SUMMARY, CONFIG = "summary.json", "config.yaml"
OF_A_TEST = {SUMMARY, CONFIG, "exits.csv", "anytime.csv", "stream.csv", "roc.csv"}
OF_A_TEST |= {"operating_points.csv", "dimensions.csv", "cost.csv", "queries.json", "attention.npz"}
OF_A_TEST |= {"camera_pairs.csv"}


def results_of(run: Path) -> Path:
    """The folder of a run's results; between two renames they are still beside their place."""
    placed, new = run / RESULTS, run / NEW
    return new if not placed.is_dir() and (new / SUMMARY).is_file() else placed


def config_of(run: Path) -> Path:
    """The config of the test that made a run's results; older runs have their only one."""
    tested = results_of(run) / CONFIG
    return tested if tested.is_file() else run / CONFIG


def begin_test(run: Path) -> Path:
    """An empty folder for the results of a test that begins; `place` puts them in place."""
    if results_of(run) == run / NEW:  # a test was killed between two renames
        (run / NEW).rename(run / RESULTS)
    for left in (run / NEW, run / OLD):
        if left.is_dir():
            shutil.rmtree(left)
    (run / NEW).mkdir(parents=True)
    return run / NEW


def place(run: Path) -> Path:
    """Put the results of a test in place of the earlier ones, and return their folder.

    Files that are not of a test, such as a search's, stay.
    """
    placed, new, old = run / RESULTS, run / NEW, run / OLD
    if placed.is_dir():
        for path in placed.iterdir():
            if path.name not in OF_A_TEST and not (new / path.name).exists():
                _copy(path, new / path.name)
        placed.rename(old)
    new.rename(placed)
    shutil.rmtree(old, ignore_errors=True)
    return placed


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        with replacing(target) as beside:
            shutil.copy2(path, beside)
