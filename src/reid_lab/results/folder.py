"""The folders of a run's results: those of the last test, and of a test that is under way.

A test writes beside the results of an earlier one and takes their place when it is complete, so
that neither a kill nor a reader at the same time ever meets half of the files.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from reid_lab.files.atomic import replacing

RESULTS, NEW, OLD = "results", "results.new", "results.old"
SUMMARY, CONFIG = "summary.json", "config.yaml"


def results_of(run: Path) -> Path:
    """The folder of a run's results; `results.new` if a test was killed between two renames."""
    placed, new = run / RESULTS, run / NEW
    return new if not placed.is_dir() and (new / SUMMARY).is_file() else placed


def config_of(run: Path) -> Path:
    """The config of the test that made a run's results; older runs have one for all."""
    tested = results_of(run) / CONFIG
    return tested if tested.is_file() else run / CONFIG


def begin_test(run: Path) -> Path:
    """Make an empty folder for the results of a new test; `place` moves them to `results`."""
    if results_of(run) == run / NEW:  # a test was killed between two renames
        (run / NEW).rename(run / RESULTS)
    for left in (run / NEW, run / OLD):
        if left.is_dir():
            shutil.rmtree(left)
    (run / NEW).mkdir(parents=True)
    return run / NEW


def place(run: Path, replaced: Collection[str]) -> Path:
    """Put the results of a test in place of the earlier ones, and return their folder.

    Args:
        replaced: names of the files of a test; others, such as a search's, stay.
    """
    placed, new, old = run / RESULTS, run / NEW, run / OLD
    if placed.is_dir():
        for path in placed.iterdir():
            if path.name not in replaced and not (new / path.name).exists():
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
