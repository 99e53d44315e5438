"""Means and deviations of a sweep's runs, by exit."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import stdev

import pytest

from reid_lab.report.sweep import exits, write_exits
from reid_lab.results.rows.multirun import MEANS, MeanRow
from reid_lab.run.jobs import Job
from reid_lab.run.multirun import mean_rows

DEEP = "model.deep_supervision"


def job(number: int, rank1: float, **overrides: str) -> Job:
    figures: dict[str, dict[str, object]] = {
        "hsv": {"rank1": 0.2},
        "stage1": {"rank1": rank1 / 2, "mAP": 0.1, "weight": -0.5, "mul_adds": 10},
        "fusion": {"rank1": rank1, "mAP": math.nan, "mul_adds": 20},
    }
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return Job(number, Path(str(number)), named, "done", "", figures, 1.0)


@pytest.fixture
def rows() -> list[MeanRow]:
    """Two settings, of which the second has one run."""
    jobs = [
        job(i, rank1, model__deep_supervision=deep, seed=str(i), name="x")
        for i, (rank1, deep) in enumerate([(0.6, "true"), (0.7, "true"), (0.4, "false")])
    ]
    return mean_rows(jobs)


def test_seeds_are_trials_of_a_setting(rows: list[MeanRow]) -> None:
    found = {(row.settings[DEEP], row.exit, row.metric): row for row in rows}
    deep = found["true", "fusion", "rank1"]
    assert (deep.runs, deep.mean) == (2, pytest.approx(0.65))
    assert deep.deviation == pytest.approx(stdev([0.6, 0.7]))
    assert found["true", "stage1", "weight"].mean == -0.5
    alone = found["false", "fusion", "rank1"]
    assert (alone.runs, alone.mean) == (1, 0.4) and math.isnan(alone.deviation)
    assert ("true", "fusion", "mAP") not in found  # nan
    assert all(row.settings.keys() == {DEEP} for row in rows)


def test_the_table_is_read_back(rows: list[MeanRow], tmp_path: Path) -> None:
    MEANS.write(tmp_path / "means.csv", rows[:4])
    assert MEANS.read(tmp_path / "means.csv") == rows[:4]


def test_a_line_a_setting_with_its_deviation(rows: list[MeanRow], tmp_path: Path) -> None:
    figure = exits(rows, "rank1")
    assert figure is not None
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["stage1", "fusion"]
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["deep_supervision true (2 runs)", "deep_supervision false (1 run)"]
    assert exits([row for row in rows if row.exit == "hsv"], "rank1") is None
    assert [path.name for path in write_exits(tmp_path, rows)] == [
        "exits_rank1.png",
        "exits_mAP.png",
    ]
