"""The folders of a run's results: of the last test, and of a test in progress.

A test writes to a new folder, which replaces the earlier results once it is complete: a killed
test leaves, and a concurrent reader sees, either the old results or the new ones.
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
    published, new = run / RESULTS, run / NEW
    return new if not published.is_dir() and (new / SUMMARY).is_file() else published


def config_of(run: Path) -> Path:
    """The config of the test that gave a run's results; older runs have one config for all."""
    tested = results_of(run) / CONFIG
    return tested if tested.is_file() else run / CONFIG


def begin_test(run: Path) -> Path:
    """Make an empty folder for the results of a new test; `publish` moves them to `results`."""
    if results_of(run) == run / NEW:  # a test was killed between two renames
        (run / NEW).rename(run / RESULTS)
    for left in (run / NEW, run / OLD):
        if left.is_dir():
            shutil.rmtree(left)
    (run / NEW).mkdir(parents=True)
    return run / NEW


def publish(run: Path, replaced: Collection[str]) -> Path:
    """Replace the earlier results of a run by those of its new test; return their folder.

    Args:
        replaced: names of the files that a test writes; others, such as a search's, are kept.
    """
    published, new, old = run / RESULTS, run / NEW, run / OLD
    if published.is_dir():
        for path in published.iterdir():
            if path.name not in replaced and not (new / path.name).exists():
                _copy(path, new / path.name)
        published.rename(old)
    new.rename(published)
    shutil.rmtree(old, ignore_errors=True)
    return published


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        with replacing(target) as beside:
            shutil.copy2(path, beside)
