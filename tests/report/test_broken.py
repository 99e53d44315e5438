"""Reports of runs whose files are broken: what is left out says why, numbers are never guessed."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.files.stored import StoredFileError
from reid_lab.files.tables import write_csv
from reid_lab.report import ReportError, exit_lines, html, load_run, plots, style, write_report
from reid_lab.report.attention import attention
from reid_lab.report.logs import read_logs
from reid_lab.report.pictures import ranked_jpg
from reid_lab.report.sections import Images
from reid_lab.results.attention import read_attention
from tests.report.fake_run import make_run

Break = Callable[[Path], object]
QUERIES, ATTENTION, LOG = "results/queries.json", "results/attention.npz", "logs/version_0"
PNG = base64.b64decode(  # of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(autouse=True)
def coarse() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 20)
        yield


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", steps=6)


def page_of(run: Path, images: Images | None = None) -> str:
    return html.page(load_run(run), images or {})


def test_camera_pairs_are_numbers_and_not_too_many(run: Path) -> None:
    path = run / "results" / "camera_pairs.csv"
    head, first, *rest = path.read_text().splitlines()
    blank = first.rsplit(",", 6)[0] + ",,,,,,"
    path.write_text("\n".join([head, blank, *rest]))
    assert len(load_run(run).camera_pairs) == len(rest)
    path.write_text("\n".join([head, first.replace("0.", "7.", 1)]))
    with pytest.raises(StoredFileError, match="rank1 is 7.*, not a fraction"):
        load_run(run)
    path.write_text("\n".join([head, *[first] * 1601]))
    with pytest.raises(StoredFileError, match="1,601 pairs of cameras, at most 1,600"):
        load_run(run)


def query(key: str, value: Any, of: str = "") -> Break:
    def work(run: Path) -> None:
        content = json.loads((run / QUERIES).read_text())
        entry = content["queries"][0]
        (entry["ranked"][of][0] if of else entry)[key] = value
        (run / QUERIES).write_text(json.dumps(content))

    return work


def write(name: str, content: bytes) -> Break:
    return lambda run: (run / name).write_bytes(content)


def arrays(**changed: Any) -> Break:
    kept = {
        "pixels": np.zeros((2, 8, 4, 3), np.uint8),
        "soft1": np.zeros((2, 2, 2), np.float32),
        "boxes1": np.zeros((2, 4, 4), np.float32),
    }
    wanted = {name: array for name, array in (kept | changed).items() if array is not None}
    return lambda run: np.savez(run / ATTENTION, **wanted)


LEFT_OUT: dict[str, tuple[Break, str]] = {
    "binary": (write(QUERIES, bytes(9)), "Ranked lists left out: .*queries.json: no text"),
    "no list": (write(QUERIES, b'{"queries": 3}'), "Ranked lists left out: .*not as expected"),
    "no object": (write(QUERIES, b'{"queries": [3]}'), "Ranked lists left out: .*not as expected"),
    "pid": (query("pid", {"a": 1}), "Ranked lists left out: .*is not a name"),
    "path": (query("path", 3), "Ranked lists left out: .*not as expected"),
    "box": (query("box", "abcd"), "Ranked lists left out: .*not as expected"),
    "infinite box": (query("box", [0, 0, 1e999, 3]), "Ranked lists left out: .*not as expected"),
    "ranked": (query("ranked", [1]), "Ranked lists left out: .*not as expected"),
    "match": (query("match", "false", "stage1"), "Ranked lists left out: .*neither true nor false"),
    "distance": (query("distance", "far", "stage1"), "Ranked lists left out: .*not as expected"),
    "attention": (write(ATTENTION, b"PK"), "Attention left out: .*attention.npz: not a file"),
    "objects": (arrays(pixels=np.array([{}])), "Attention left out: .*not a file of arrays"),
    "config": (write("config.yaml", bytes(9)), "config.yaml: no text"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_only_illustrates_is_left_out(run: Path, what: str) -> None:
    damage, reason = LEFT_OUT[what]
    damage(run)
    page = page_of(run)
    assert "88.5%" in page
    assert [line for line in page.splitlines() if re.search(reason, line)]


@pytest.mark.parametrize("content", [b"", bytes(9), b"step,step\n1,2\n", b"step,a\n1,2,3\n"])
def test_a_broken_log_is_left_out_and_the_others_are_drawn(run: Path, content: bytes) -> None:
    write(f"{LOG}/metrics.csv", content)(run)
    page = page_of(run, {"loss.png": PNG})
    assert "<h2>Training</h2>" in page and "Left out: " in page and "version_0" in page
    for path in run.glob("logs/*/metrics.csv"):
        path.write_bytes(content)
    assert "Training left out: " in page_of(run)


def test_a_line_that_a_killed_run_left_unfinished(tmp_path: Path) -> None:
    (tmp_path / "version_0").mkdir()
    path = tmp_path / "version_0" / "metrics.csv"
    path.write_text("step,train/loss_a\n0,1.5\nnan,1\ninf,1\n-1,1\n,1\n1e300,1\n1,2.5\n2,2")
    logs = read_logs(tmp_path)
    assert logs.broken == () and logs.rows == {0: {"train/loss_a": 1.5}, 1: {"train/loss_a": 2.5}}


@pytest.mark.parametrize(
    ("path", "box"),
    [("a\0b", None), ("x" * 5000, None), ("results", None), ("/dev/zero", None), ("\udcff", None)]
    + [("images/0.jpg", box) for box in ([5, 5, 5, 5], [-9, -9, 9, 9], [0, 0, 10**9, 10**9])],
)
def test_pictures_that_cannot_be_shown(run: Path, path: str, box: object) -> None:
    query("path", path)(run)
    query("box", box)(run)
    page = page_of(run)
    assert ranked_jpg(load_run(run).queries)
    assert "<h2>Ranked lists</h2>" in page


@pytest.mark.parametrize(
    "changed",
    [
        {"pixels": None},
        {"boxes1": None},
        {"pixels": np.zeros((2, 8, 4, 3))},
        {"pixels": np.zeros((0, 8, 4, 3), np.uint8)},
        {"pixels": np.zeros((2, 8), np.uint8)},
        {"pixels": np.array("abc")},
        {"soft1": np.zeros((3, 2, 2), np.float32)},
        {"soft1": np.full((2, 2, 2), np.nan, np.float32)},
        {"soft1": np.zeros((2, 0, 2), np.float32)},
        {"boxes1": np.zeros((2, 4), np.float32)},
        {"boxes1": np.array([["a"] * 4] * 2)},
    ],
    ids=str,
)
def test_arrays_that_are_no_attention(run: Path, changed: dict[str, Any]) -> None:
    arrays(**changed)(run)
    with pytest.raises(StoredFileError, match="attention.npz"):
        read_attention(run / ATTENTION)


def test_attention_of_many_images_is_drawn_in_part(run: Path) -> None:
    many = {"pixels": (500, 8, 4, 3), "soft1": (500, 2, 2), "boxes1": (500, 4, 4)}
    of = {"pixels": np.uint8}
    arrays(**{name: np.zeros(shape, of.get(name, np.float32)) for name, shape in many.items()})(run)
    shown = read_attention(run / ATTENTION)
    assert shown and len(shown.pixels) == 50
    figure = attention(replace(shown, pixels=shown.pixels[:2], levels=[]))
    assert figure and len(figure.axes) == 2


NUMBERS = [
    ("exits", "rank1", ("", "nan", "0", "1"), ("55", "-0.1", "inf", "high")),
    ("exits", "mul_adds", ("0", "1e18"), ("-1", "nan", "inf", "1e400", "0.5")),
    ("exits", "name", ("x" * 400, "$x_$", "_a", "行人", "<b>"), ("x" * 600,)),
    ("anytime", "mul_adds", ("0", "1e18"), ("-1", "inf", "nan", "")),
    ("anytime", "budget", ("0", "1e18"), ("-1", "inf")),
    ("stream", "realised", ("0", "1e18"), ("-1", "inf", "nan")),
    ("stream", "a", ("inf", "-inf", "nan", "1e308"), ("x",)),
    ("roc", "fmr", ("nan", "0", "1e-320"), ("-1", "2")),
    ("roc", "tmr", ("nan", "0"), ("inf",)),
    ("operating_points", "threshold", ("inf", "-1", "1e308", "nan"), ("x",)),
    ("operating_points", "fmr", ("nan", "0", "1e-320"), ("-1",)),
    ("dimensions", "dim", ("0", "1e18"), ("nan", "-1", "1e300")),
    ("dimensions", "mAP", ("nan",), ("-inf",)),
]
BAD = [(name, column, value) for name, column, _, bad in NUMBERS for value in bad]
DRAWN = {
    "exits": (plots.exits,),
    "anytime": (plots.anytime,),
    "stream": (lambda run, *_: plots.stream(run), lambda run, *_: plots.budget(run)),
    "roc": (lambda run, *_: exit_lines.roc(run),),
    "operating_points": (lambda run, *_: exit_lines.roc(run),),
    "dimensions": (lambda run, _, metric: exit_lines.dimensions(run, metric),),
}


def fill(run: Path, name: str, column: str, values: Sequence[str]) -> Path:
    """These values in turns; names are numbered to stay apart."""
    path = run / "results" / f"{name}.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, (row, value) in enumerate(zip(rows, cycle(values), strict=False)):
        row[column] = value + str(number) if column == "name" else value
    write_csv(path, rows)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "column", "values"), [case[:3] for case in NUMBERS])
@pytest.mark.parametrize("alone", [False, True])
def test_unusual_numbers_are_drawn(
    run: Path, name: str, column: str, values: Sequence[str], alone: bool
) -> None:
    fill(run, name, column, values[:1] if alone else values)
    shown = load_run(run)
    for draw in DRAWN[name]:
        style.png(lambda draw=draw: draw(shown, {}, "rank1"))  # type: ignore[misc]
    assert html.page(shown, {})


def test_a_budget_that_some_rows_lack_is_an_error(run: Path) -> None:
    fill(run, "anytime", "budget", ["1", "nan"])
    with pytest.raises(StoredFileError, match="anytime.csv: row 2: budget is nan"):
        load_run(run)


@pytest.mark.parametrize(("name", "column", "value"), BAD)
def test_numbers_that_cannot_be_are_an_error(run: Path, name: str, column: str, value: str) -> None:
    path = fill(run, name, column, [value])
    with pytest.raises(StoredFileError, match=f"^{path}: row 1: {column} "):
        load_run(run)


@pytest.mark.usefixtures("undrawn")
def test_a_broken_run_is_not_compared(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = make_run(tmp_path / "broken", "other", steps=6)
    write("results/exits.csv", b"")(broken)
    good = make_run(tmp_path / "good", "third", steps=6)
    page = write_report(run, [broken, tmp_path / "gone", good]).read_text()
    for reason in ("exits.csv: empty", "no run folder"):
        assert f"Not compared: {tmp_path}" in page or "Not compared: no run folder" in page
        assert reason in page and reason in caplog.text
    assert "third" in (run / "report" / "exits.csv").read_text()


@pytest.mark.usefixtures("undrawn")
def test_every_text_of_a_file_is_escaped(run: Path) -> None:
    summary = json.loads((run / "results/summary.json").read_text())
    texts = dict.fromkeys(("name", "task", "command", "commit", "machine"), HOSTILE)
    summary |= {**texts, "notes": [HOSTILE], "protocol": {HOSTILE: HOSTILE}}
    summary |= {"versions": {HOSTILE: HOSTILE}}
    summary["dataset"] = {"name": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}}
    (run / "results/summary.json").write_text(json.dumps(summary))
    (run / "config.yaml").write_text(f"a: '{HOSTILE}'\n")
    for key in ("pid", "camid", "group"):
        query(key, HOSTILE)(run)
        query(key, HOSTILE, "stage1")(run)
    for name in ("exits", "anytime", "stream", "roc", "operating_points", "dimensions"):
        path = run / "results" / f"{name}.csv"
        path.write_text(path.read_text().replace("stage1", HOSTILE[2:]))
    log = run / LOG / "metrics.csv"
    log.write_text(log.read_text().replace("stage1", HOSTILE[2:]))
    page = write_report(run, [make_run(run.parent / "b", HOSTILE, steps=6)]).read_text()
    assert "<script" not in page and page.count("&lt;script&gt;alert(1)") > 20


def test_a_name_that_utf_8_cannot_say(run: Path) -> None:
    path = run / "results/summary.json"
    path.write_text(path.read_text().replace("dare-r50", "\\udcff"))
    assert "<h1>\\udcff</h1>" in page_of(run)


@pytest.mark.skipif(os.name == "nt", reason="links of POSIX")
def test_a_results_folder_that_is_a_loop(tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to("results")
    with pytest.raises(ReportError, match="no results"):
        load_run(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_a_report_that_cannot_be_written(run: Path) -> None:
    (run / "report").write_text("no folder")
    with pytest.raises(ReportError, match="the report cannot be written to .*report"):
        write_report(run)
