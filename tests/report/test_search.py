"""The report's section on a search, from `search.csv` to the page."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from reid_lab.files.tables import write_json
from reid_lab.report import load_run, style, write_report
from reid_lab.report.search import search, search_table
from reid_lab.results.rows.search import SEARCH, TrialRow


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(style, "DPI", 40)
    nan = math.nan
    trials = [
        TrialRow(1, "explore", 1.25, -0.05, 3, 7, 0.2, nan, nan, nan, 2.5),
        TrialRow(1, "explore", 0.5, 0.2, 8, 16, 0.1, nan, nan, nan, 2.0),
        TrialRow(1, "exploit", 0.75, 0.1, 1, 2, 0.05, 0.08, 0.03, 1e-3, 1.0),
        TrialRow(2, "explore", 1.25, -0.05, 3, 7, 0.15, 0.19, 0.01, 1e-9, 0.9),
        TrialRow(2, "exploit", 0.75, 0.1, 1, 2, nan, 0.08, 0.03, 1e-3, nan),
    ]
    SEARCH.write(tmp_path / "results" / "search.csv", trials)
    write_json(tmp_path / "results" / "summary.json", {"name": "pla"})
    return tmp_path


def test_the_table_has_every_trial(run: Path) -> None:
    table = search_table(load_run(run))
    assert [row[:2] for row in table.rows][2:4] == [["exploit", "1"], ["explore", "2"]]
    assert table.rows[0][2:8] == ["1.25", "-0.05", "3", "7", "0.2", "–"]
    assert table.rows[4][6:] == ["–", "0.08", "0.03", "0.001", "–"]  # it is under way
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_the_picture_shows_trials_and_what_was_expected(run: Path) -> None:
    figure = search(load_run(run))
    assert figure is not None
    top, *below = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in top.lines}
    assert drawn["explored"] == [[1, 0.2], [2, 0.1], [4, 0.15]]
    assert drawn["chosen"][0] == [3, 0.05]
    expected = {
        c.get_label(): c.lines[0].get_xydata().tolist()  # type: ignore[attr-defined]
        for c in top.containers
    }
    assert expected["expected of it"] == [[4, 0.19]]
    assert expected["expected of the chosen"] == [[3, 0.08], [5, 0.08]]
    assert [ax.get_ylabel() for ax in below] == ["λ", "m", "k", "p"]


def test_the_page_has_the_section_where_there_was_a_search(run: Path) -> None:
    page = write_report(run).read_text()
    assert "<h2>Search</h2>" in page
    assert (run / "report" / "search.png").is_file()
    (run / "results" / "search.csv").unlink()
    assert "<h2>Search</h2>" not in write_report(run).read_text()
