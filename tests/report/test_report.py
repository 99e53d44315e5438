"""The report of a fake run: what it says, what it marks, and what it does without."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from reid_lab.cli.show.run import print_exits
from reid_lab.files.stored import StoredFileError
from reid_lab.files.tables import write_csv, write_json
from reid_lab.report import (
    ReportError,
    conditions,
    curves,
    exit_lines,
    load_run,
    plots,
    sections,
    style,
    write_report,
)
from reid_lab.report.headlines import headlines
from reid_lab.report.load import Run
from reid_lab.report.logs import read_logs
from reid_lab.report.tables import (
    duration,
    exits_table,
    mul_adds,
    number,
    operating_points_table,
    percent,
    points,
    protocol_line,
    rate,
    rates_table,
    stream_table,
)
from reid_lab.results.rows.verification import RocRow
from tests.report.fake_run import NAMES, make_logs, make_run

PAGE = "report/report.html"
SECTIONS = {
    "exits.csv": "Accuracy by exit",
    "anytime.csv": "Anytime",
    "stream.csv": "Budgeted stream",
    "queries.json": "Ranked lists",
}


class Links(HTMLParser):
    """Collects whatever a page would load or follow, and its element names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]


@pytest.fixture(scope="module", autouse=True)
def coarse() -> Iterator[None]:
    """Small plots, for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 40)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report, only to be looked at."""
    run = make_run(tmp_path_factory.mktemp("done") / "run")
    write_report(run)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.mark.usefixtures("undrawn")
def test_writes_the_page_and_what_is_behind_it(run: Path) -> None:
    before = dict(matplotlib.rcParams)
    (run / "report").mkdir()
    (run / "report" / "ranked.png").write_bytes(b"of an older version")
    target = write_report(run)
    assert target == run / "report" / "report.html"
    assert not (run / "report" / "ranked.png").exists()
    written = {path.name for path in target.parent.iterdir()}
    assert {
        "report.html",
        "ranked.jpg",
        "exits_rank1.png",
        "anytime_rank1.png",
        "stream.png",
        "budget.png",
        "roc.png",
        "cameras_rank1.png",
        "cameras_mAP.png",
        "conditions_size.png",
        "conditions_sharpness.png",
        "conditions_occlusion.png",
        "dimensions_rank1.png",
        "dimensions_mAP.png",
        "loss.png",
        "validation.png",
    } <= written
    assert {"exits.csv", "anytime.csv", "stream.csv", "training.csv"} <= written
    assert {"roc.csv", "operating_points.csv", "dimensions.csv"} <= written
    assert dict(matplotlib.rcParams) == before


def test_its_pictures_can_be_opened(done: Path) -> None:
    pictures = list((done / "report").glob("*.png"))
    assert len(pictures) > 15
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 8


def test_formats_numbers() -> None:
    assert [mul_adds(n) for n in (513.7e6, 2673.6e6, 1e5, 999.96e6, 12_345, 7)] == [
        "513.7 M",
        "2.67 G",
        "0.1 M",
        "1.00 G",
        "12.3 k",
        "7",
    ]
    assert [percent(0.885), percent(float("nan")), points(-0.018)] == ["88.5%", "–", "−1.8"]
    assert [rate(x) for x in (0.01, 0.000123, 0.0, 0.5)] == ["1.0%", "0.012%", "0%", "50%"]
    assert rate(float("nan")) == number(float("nan")) == "–" and number(1.23456) == "1.235"
    assert [duration(s) for s in (12.4, 75, 7384)] == ["12 s", "1 min 15 s", "2 h 3 min"]


def test_page_tells_the_numbers(done: Path) -> None:
    page = (done / PAGE).read_text()
    for text in (
        "dare-r50",
        "88.5%",
        "66.7%",
        "513.7 M",
        "2.67 G",
        "hsv_histogram (reference)",
        "3,368 queries",
        "412 images/s, 25.0% of the GPU",
        "Margin over random",
        "2 h 3 min",
        "0123abcd",
        "backbone: resnet50",
        "Images are 256 by 128 pixels.",
        "12,936",
        "mAP is plain average precision, the default",
        "71.5%",  # by the trapezoid rule
        "fusion + k_reciprocal",
        "marks in the legend are exits after re-ranking",
        "1,125 queries, 5,773 gallery images",
        "0.011%",
        '88.5%<small title="95% confidence interval">86.4–90.3</small>',
        '95.0%<small title="95% confidence interval">94.2–95.6</small>',  # Rank-5
        '0.011%<small title="95% confidence interval">0.0090–0.013</small>',
        "Rank-1 of fusion (95% CI 86.4–90.3); mAP 70.9%",
        "TMR has none, as its threshold was chosen on the same pairs",
        "Shaded: the 95% confidence interval of the exit",
        "Errors of fusion by condition",
        "Person 5, camera 1: first match at rank 1,234. Ranked first instead: person 6, camera 2, "
        "distance 0.123.",
        "Protocol: hidden: same person and camera · trials: 1 · seed: 0 · query: single",
    ):
        assert text in page, text
    assert "Cheapest within" not in page  # no cheaper exit is within one point
    assert "left out" not in page


def test_each_section_is_linked(done: Path) -> None:
    page = (done / PAGE).read_text()
    links = re.findall(r'<a href="#([^"]+)">([^<]+)</a>', page)
    assert re.findall(r'<section id="([^"]+)">\s*<h2>([^<]+)</h2>', page) == links
    assert ("accuracy-by-exit", "Accuracy by exit") in links


def test_the_staircase_is_shaded_between_the_ends_of_its_exits(run: Path) -> None:
    figure = plots.anytime(load_run(run), {}, "rank1")
    assert figure
    (band,) = figure.axes[0].collections
    corners = band.get_paths()[0].vertices  # type: ignore[attr-defined]
    assert {*np.round(corners[:, 1], 1)} >= {64.6, 68.5, 86.4, 90.3}  # of the first exit, the last
    shown = load_run(run)
    shown.anytime = [replace(row, rank1_low=math.nan) for row in shown.anytime]
    older = plots.anytime(shown, {}, "rank1")
    assert older and not older.axes[0].collections
    cells = dict(zip(stream_table(shown).header, stream_table(shown).rows[0], strict=True))
    assert cells["Rank-1"] == "66.7%\n64.6–68.5" and cells["mAP"] == "47.7%"


def test_rates_stand_beside_each_other(run: Path) -> None:
    table = rates_table(load_run(run))
    assert [row[0] for row in table.rows] == NAMES
    assert list(table.groups) == [("", 1), ("FMR 1%", 3), ("FMR 0.1%", 3), ("FMR 0.01%", 3)]
    first = operating_points_table(load_run(run)).rows[:3]  # one row per exit and rate
    assert [table.rows[0][k] for k in (1, 4, 7)] == [row[2] for row in first]
    assert [table.rows[0][k] for k in (2, 5, 8)] == [row[6] for row in first]


@pytest.mark.parametrize(
    ("columns", "caption"),
    [
        (("train/loss_stage1", "train/loss_fusion"), "Loss of each exit by"),
        (("train/loss_triplet", "train/loss_identity"), "The parts of the loss by"),
        (("train/loss",), "The loss by"),
    ],
)
def test_a_short_training_is_seen_and_called_what_it_is(
    run: Path, columns: tuple[str, ...], caption: str
) -> None:
    for path in run.glob("logs/*/metrics.csv"):
        path.unlink()
    write_csv(
        run / "logs" / "version_0" / "metrics.csv", [{"step": 49, **dict.fromkeys(columns, 2)}]
    )
    shown = load_run(run)
    figure = curves.loss(shown)
    assert figure
    drawn = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len(drawn) == len(columns)  # one point is no line
    found = sections.training(shown, {"loss.png": style.png(lambda: figure)})
    assert found.plots[0].caption.startswith(caption)


def test_marks_right_and_wrong(done: Path) -> None:
    page = (done / PAGE).read_text()
    queries = load_run(done).queries
    matches = [s.match for q in queries for shots in q.ranked.values() for s in shots]
    assert page.count('class="shot right"') == page.count("✓</i>") == sum(matches) > 0
    assert page.count('class="shot wrong"') == page.count("✗</i>") == matches.count(False) > 0
    assert "<h3>Easy queries</h3>" in page and "<h3>Hard queries</h3>" in page


def test_page_needs_nothing_else(done: Path) -> None:
    page = (done / PAGE).read_text()
    found = Links(page)
    assert found.links and all(link.startswith(("data:image/", "#")) for link in found.links)
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert not re.search(r"url\(|@import", page)
    assert str(done) not in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", SECTIONS)
def test_survives_a_missing_result(run: Path, name: str) -> None:
    (run / "results" / name).unlink()
    page = write_report(run).read_text()
    assert f"{SECTIONS[name]} left out: results/{name}" in page
    assert f"<h2>{SECTIONS[name]}</h2>" not in page
    assert page.count("left out:") == 1


@pytest.mark.usefixtures("undrawn")
def test_what_a_run_was_not_asked_for_is_not_missed(run: Path) -> None:
    assert "<h2>Feature dimension</h2>" in write_report(run).read_text()
    (run / "results" / "dimensions.csv").unlink()
    page = write_report(run).read_text()
    assert "Feature dimension" not in page
    assert "Attention" not in page


@pytest.mark.usefixtures("undrawn")
def test_errors_are_shown_where_they_are_known(run: Path) -> None:
    def of(page: str) -> str:
        return page.partition("<h2>Errors</h2>")[2].partition("</section>")[0]

    page = of(write_report(run).read_text())
    assert page.count("<img") > 2 and "Camera pairs" in page and "<h3>Worst queries</h3>" in page
    (run / "results" / "camera_pairs.csv").unlink()
    page = of(write_report(run).read_text())
    assert "Camera pairs" not in page and "<h3>Worst queries</h3>" in page
    assert not list((run / "report").glob("cameras_*"))
    (run / "results" / "queries.json").unlink()
    assert "Occlusion is an estimate" in of(write_report(run).read_text())
    (run / "results" / "conditions.csv").unlink()
    assert not of(write_report(run).read_text())


def test_conditions_are_drawn_by_quartile_with_intervals(run: Path) -> None:
    shown = load_run(run)
    table = conditions.conditions_table(shown)
    assert len(table.rows) == 12 and list(table.rows[0][:2]) == ["Image size", "1"]
    assert list(table.rows[0][5:]) == ["82.0%\n79.5–84.0", "62.0%\n59.5–64.0"]
    figure = conditions.condition(shown, "occlusion")
    assert figure is not None
    rank1, *bars = (line.get_ydata() for line in figure.axes[0].lines)
    assert list(rank1) == pytest.approx([94, 90, 86, 82])
    assert list(bars[0]) == pytest.approx([91.5, 96])
    shown.conditions = []
    assert conditions.condition(shown, "size") is None


def test_camera_pairs_stand_in_a_grid(run: Path) -> None:
    shown = load_run(run)
    figure = conditions.cameras(shown, "rank1")
    assert figure
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert len(cells) == 6 and cells[(1, 0)] == "78" and cells[(0, 2)] == "59"
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    assert image[0, 1].sum() > image[2, 1].sum() and (image[0, 0] == 1).all()  # weak is darker
    table = conditions.cameras_table(shown)
    assert list(table.rows[0]) == [
        *("3", "2", "103"),
        *("58.0%\n50.0–65.0", "38.0%\n30.0–45.0"),
    ]


@pytest.mark.usefixtures("undrawn")
def test_operating_points_need_one_of_two_files(run: Path) -> None:
    (run / "results" / "operating_points.csv").unlink()
    page = write_report(run).read_text()
    assert "too few people or pairs to choose" in page and "left out" not in page
    (run / "results" / "roc.csv").unlink()
    page = write_report(run).read_text()
    assert "Operating points left out: results/roc.csv" in page
    assert not list((run / "report").glob("roc*"))


@pytest.mark.usefixtures("undrawn")
def test_operating_points_that_could_not_be_had(run: Path) -> None:
    path = run / "results" / "operating_points.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = ("exit", "fmr", "tmr_at_fmr", "gallery")
    blank = {key: "nan" for key in rows[0] if key not in known and not key.endswith("queries")}
    rows[2] |= blank | {"note": "830 impostor pairs show no rate below 1.2e-03"}
    write_csv(path, rows)
    row = operating_points_table(load_run(run)).rows[2]
    assert list(row) == ["stage1", "0.01%", "22.9%", *["–"] * 6]
    assert "830 impostor pairs show no rate below 1.2e-03." in write_report(run).read_text()


@pytest.mark.usefixtures("undrawn")
def test_older_runs_lack_columns_and_keys(run: Path) -> None:
    for name in ("roc", "operating_points", "dimensions", "conditions", "policies"):
        (run / "results" / f"{name}.csv").unlink()
    path = run / "results" / "stream.csv"
    with path.open(newline="") as file:
        rows = [
            {k: v for k, v in r.items() if "gain" not in k and "over" not in k}
            for r in csv.DictReader(file)
        ]
    write_csv(path, rows)
    path = run / "results" / "exits.csv"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] != "reranked"]
    write_csv(path, [{k: v for k, v in row.items() if k != "mAP_trapezoid"} for row in rows])
    for path in (run / "results").glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        older = [{k: v for k, v in row.items() if k[-4:] not in ("_low", "high")} for row in rows]
        write_csv(path, older)
    summary = json.loads((run / "results" / "summary.json").read_text())
    del summary["protocol"]
    write_json(run / "results" / "summary.json", summary)
    page = write_report(run).read_text()
    assert "mAP trap." not in page and "Protocol:" not in page and "re-ranking" not in page
    assert "95%" not in page
    assert "88.5%" in page


def test_reranked_exits_stand_by_their_exit(run: Path) -> None:
    shown = load_run(run)
    names = [row[0] for row in exits_table(shown.exits).rows]
    assert names[:3] == ["stage1", "stage1 + k_reciprocal", "stage2"]
    assert names[-1] == "hsv_histogram (reference)"
    assert shown.exit_names == NAMES
    assert headlines(shown)[0].value == "88.5%"  # of the exit itself
    figure = plots.exits(shown, {}, "mAP")
    assert figure
    drawn = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert len(drawn) == len(NAMES) + 1  # and one in the legend
    assert figure.axes[0].get_legend_handles_labels()[1] == ["with k_reciprocal"]


def test_one_exit_has_nothing_to_choose(run: Path) -> None:
    header, first, *_ = (run / "results" / "exits.csv").read_text().splitlines()
    (run / "results" / "exits.csv").write_text(f"{header}\n{first}\n")
    page = write_report(run).read_text()
    for title in ("Anytime", "Budgeted stream"):
        assert f"{title} left out: the method has one exit" in page


def test_rates_are_on_a_log_axis_and_dimensions_on_powers_of_two(run: Path) -> None:
    shown = load_run(run)
    roc, dims = exit_lines.roc(shown), exit_lines.dimensions(shown, "mAP")
    assert roc and dims
    assert (roc.axes[0].get_xscale(), dims.axes[0].get_xscale()) == ("log", "log")
    assert roc.axes[0].get_legend_handles_labels()[1] == NAMES
    assert [tick.get_text() for tick in dims.axes[0].get_xticklabels()] == ["16", "32", "64", "128"]


def test_protocol_says_what_is_fixed() -> None:
    line = protocol_line({"hidden": "same_camera", "shots": None, "seed": 0, "tracklets": True})
    assert line == "hidden: same camera · seed: 0 · tracklets: yes"


@pytest.mark.usefixtures("undrawn")
def test_survives_other_missing_pieces(run: Path) -> None:
    (run / "results" / "summary.json").unlink()
    (run / "config.yaml").unlink()
    (run / "images" / "0.jpg").unlink()
    for path in run.glob("logs/*/metrics.csv"):
        path.unlink()
    page = write_report(run).read_text()
    assert "<h1>run</h1>" in page  # the folder's name
    assert "Training left out: no losses" in page
    assert 'class="lost"' in page and "1 images could not be read" in page


@pytest.mark.usefixtures("undrawn")
def test_only_a_summary_is_enough(run: Path) -> None:
    write_report(run)
    for path in (run / "results").iterdir():
        if path.name != "summary.json":
            path.unlink()
    folder = write_report(run).parent
    assert not list(folder.glob("exits*"))  # nothing stale stays behind


def test_says_what_is_wrong(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no run folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReportError, match="no results"):
        write_report(tmp_path / "empty")
    (run / "results" / "exits.csv").write_text("name,kind\nstage1,exit\n")
    with pytest.raises(StoredFileError, match="exits.csv: no column 'mul_adds'"):
        write_report(run)


def test_resumed_logs_merge_and_the_later_wins(tmp_path: Path) -> None:
    make_logs(tmp_path / "version_2", range(0, 40))
    make_logs(tmp_path / "version_10", range(30, 60), shift=100.0)
    logs = read_logs(tmp_path)
    steps, values = logs.losses["stage1"]
    assert list(steps) == list(range(60))
    assert (values[:30] < 50).all() and (values[30:] > 50).all()
    assert list(logs.validation["fusion"][0]) == [0, 20, 40]


@pytest.mark.usefixtures("undrawn")
def test_escapes_hostile_names(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    run = make_run(tmp_path / "run", name=hostile)
    for name in ("exits.csv", "roc.csv", "operating_points.csv", "dimensions.csv", "queries.json"):
        path = run / "results" / name
        path.write_text(path.read_text().replace("stage1", "<img onerror=x>"))
    page = write_report(run, [run]).read_text()
    assert "<script" not in page and "<img onerror" not in page
    assert "&lt;script&gt;alert(1)" in page and "&lt;img onerror=x&gt;" in page


def test_draws_a_name_that_looks_like_mathematics(run: Path) -> None:
    path = run / "results" / "exits.csv"
    path.write_text(path.read_text().replace("stage1", "$x_$"))
    assert style.png(partial(plots.exits, load_run(run), {}, "rank1"))


@pytest.mark.usefixtures("undrawn")
def test_compares_runs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_run(tmp_path / "other", name="se-resnet")
    write_report(run, [other, make_run(tmp_path / "twin")])
    for draw in (plots.exits, plots.anytime):
        figure = draw(load_run(run), {"baseline": load_run(other)}, "rank1")
        assert figure and {"dare-r50", "baseline"} <= set(
            figure.axes[0].get_legend_handles_labels()[1]
        )
        monkeypatch.undo()  # two runs are drawn
        assert style.png(lambda figure=figure: figure)  # type: ignore[misc]
    with (run / "report" / "exits.csv").open() as file:
        labels = {row["run"] for row in csv.DictReader(file)}
    assert labels == {"dare-r50", "se-resnet", "dare-r50 (twin)"}
    assert not (other / "report").exists()


@pytest.mark.usefixtures("undrawn")
def test_compares_runs_of_one_name_in_folders_of_one_name(run: Path, tmp_path: Path) -> None:
    write_report(run, [make_run(tmp_path / sweep / "0") for sweep in ("T1", "T2", "T3")])
    with (run / "report" / "exits.csv").open() as file:
        labels = {row["run"] for row in csv.DictReader(file)}
    numbered = {f"dare-r50 (0){number}" for number in ("", " 2", " 3")}
    assert labels == {"dare-r50", *numbered}


def test_prints_exits(run: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    exits = load_run(run).exits
    print_exits(exits, console=console)
    text = console.export_text()
    assert "fusion" in text and "88.5%" in text and "2.67 G" in text
    assert "…" not in text and "trap." not in text  # nothing is cut off
    wide = Console(width=100, record=True, file=io.StringIO())
    print_exits(exits, console=wide)
    assert "mAP trap." in (text := wide.export_text()) and "71.5%" in text and "…" not in text


def test_a_roc_of_one_point_has_an_axis() -> None:
    """As of two images of two people."""
    point = RocRow(exit="pool", fmr=1.0, tmr=1.0, threshold=0.5)
    figure = exit_lines.roc(Run(folder=Path("run"), roc=[point]))
    assert figure is not None and figure.axes[0].get_xlim() == (0.1, 1)
