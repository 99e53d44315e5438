"""A broken run is left out and named; the others are drawn, and the status says so."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reid_lab.frontier import collect as collecting
from reid_lab.frontier import tables
from reid_lab.frontier.plots import frontier
from reid_lab.frontier.points import Point
from reid_lab.report.load import load_results
from tests.commands import frontier as main
from tests.frontier.runs import cost_row, make_run

Break = Callable[[Path], object]
SUMMARY, EXITS, STREAM = "results/summary.json", "results/exits.csv", "results/stream.csv"


@pytest.fixture(autouse=True)
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "png", lambda draw: None)


def write(name: str, content: str | bytes) -> Break:
    return lambda run: (run / name).write_bytes(
        content.encode() if isinstance(content, str) else content
    )


def change(name: str, old: str, new: str) -> Break:
    def work(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return work


def summary(key: str, value: Any) -> Break:
    def work(run: Path) -> None:
        content = json.loads((run / SUMMARY).read_text())
        (run / SUMMARY).write_text(json.dumps(content | {key: value}))

    return work


def folder(name: str) -> Break:
    def work(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return work


def link(name: str, target: str) -> Break:
    def work(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to(target)

    return work


BROKEN: dict[str, tuple[Break, str]] = {
    "binary config": (write("config.yaml", bytes(range(32))), "config.yaml: no text"),
    "bomb": (write("config.yaml", "a: &a [x]\nb: [*a, *a]\n"), "config.yaml: .*alias"),
    "resolver": (write("config.yaml", "name: ${oc.env:HOME}"), "config.yaml: .*not resolved"),
    "config a folder": (folder("config.yaml"), "config.yaml: a folder"),
    "config a loop": (link("config.yaml", "config.yaml"), "config.yaml: "),
    "binary summary": (write(SUMMARY, b"\xff\x00"), "summary.json: not UTF-8"),
    "empty summary": (write(SUMMARY, ""), "summary.json: not JSON"),
    "nested summary": (write(SUMMARY, '{"a":' + "[" * 99_999), "summary.json: nested deeper"),
    "summary a folder": (folder(SUMMARY), "summary.json: a folder"),
    "summary a loop": (link(SUMMARY, "summary.json"), "summary.json: "),
    "dataset's name": (summary("dataset", {"name": "a\nb"}), "dataset.name is .*several lines"),
    "dataset": (summary("dataset", "market1501"), "summary.json: dataset is 'market1501'"),
    "gallery": (summary("dataset", {"gallery": {"images": [1]}}), "dataset.gallery"),
    "negative": (summary("dataset", {"gallery": {"images": -1}}), "dataset.gallery.images is -1"),
    "protocol": (summary("protocol", [1]), "summary.json: protocol is"),
    "seed": (summary("seed", {"a": 1}), "summary.json: seed is"),
    "name": (summary("name", ["a"]), "summary.json: name is"),
    "lines": (summary("name", "a\nb"), "summary.json: name is .*several lines"),
    "terminal": (write(SUMMARY, '{"name": "\x1b[2J"}'), "summary.json: no text: .*x1b"),
    "long": (summary("name", "x" * 501), "summary.json: name is .*at most 500 characters"),
    "machine": (summary("machine", 3), "summary.json: machine is 3"),
    "mul-adds": (summary("mul_adds", {"early": "1"}), "mul_adds.early is '1'"),
    "no exits": (write(EXITS, ""), "exits.csv: empty"),
    "cut off": (write(EXITS, "name,kind\nearly"), "exits.csv: line 2: 1 cells"),
    "a row less": (summary("mul_adds", {"fusion": 1}), "exits.csv: the exit 'fusion' of"),
    "twice": (change(EXITS, "late", "early"), "exits.csv: duplicate exit 'early'"),
    "column twice": (change(EXITS, "rank5", "rank1"), "exits.csv: duplicate column 'rank1'"),
    "column gone": (change(EXITS, "mINP", "foo"), "exits.csv: no column 'mINP'"),
    "kind": (change(EXITS, "reference", "published"), "exits.csv: kind is 'published'"),
    "percent": (change(EXITS, "0.5", "50"), "exits.csv: row 1: .* is 50, not a fraction"),
    "negative cost": (change(EXITS, "10000000", "-5"), "exits.csv: row 1: mul_adds is -5"),
    "infinite cost": (change(EXITS, "10000000", "1e999"), "exits.csv: row 1: mul_adds is 1e999"),
    "no number": (change(EXITS, "10000000", "fast"), "row 1: mul_adds is 'fast', not a number"),
    "binary stream": (write(STREAM, bytes(99)), "stream.csv: no text"),
    "shares": (change(STREAM, "1.0,0.0", "0.2,0.0"), "stream.csv: row 1: the shares"),
    "cost": (write("results/cost.csv", "exit\nearly\n"), "cost.csv: no column"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_run_is_left_out(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, reason = BROKEN[what]
    make_run(tmp_path / "runs" / "good", costs=[cost_row("early", 2.0), cost_row("late", 6.0)])
    bad = make_run(tmp_path / "runs" / "bad", "bad", policies={"margin": [(10e6, 0.5)]})
    damage(bad)
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err.splitlines()
    notes = [line for line in said if line.startswith(f"note: left out: {bad}/")]
    assert len(notes) == 1 and said[-1] == "error: 1 left out, as noted"
    assert re.search(reason, notes[0])
    table = (tmp_path / "out" / "frontier.csv").read_text()
    assert "two,exit,early" in table and "bad" not in table


def rewritten(run: Path) -> None:
    """As a test that ended meanwhile leaves it."""
    text = (run / SUMMARY).read_text()
    (run / "new").write_text(text)
    (run / "new").replace(run / SUMMARY)


@pytest.mark.parametrize("what", ["gone", "tested again"])
def test_a_run_that_changes_while_it_is_read(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "good")
    bad = make_run(tmp_path / "bad", "bad")
    load = load_results

    def late(folder: Path) -> Any:
        if folder == bad and what == "gone":
            (bad / SUMMARY).unlink()
        run = load(folder)
        if folder == bad and what != "gone":
            rewritten(bad)
        return run

    monkeypatch.setattr(collecting, "load_results", late)
    found = collecting.collect([tmp_path])
    assert {p.method for p in found.points} == {"two", "hsv"}
    assert len(found.broken) == 1 and str(bad) in found.broken[0]


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "good")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        found = collecting.collect([tmp_path])
    assert found.points and found.broken == [f"left out: {tmp_path}/closed: Permission denied"]


@pytest.mark.parametrize(
    "config",
    [
        "model: {{teacher: {run}/checkpoints/last.ckpt}}",
        "task: test\nckpt_path: {run}/checkpoints/last.ckpt",
        "task: test\nckpt_path: ~nobody-of-this-name/x/checkpoints/last.ckpt",
        "callbacks: [1]\nmodel: 3\nckpt_path: [x]",
        "callbacks: {{stream: 3}}",
        "model: {{_target_: os.system, _args_: ['exit 1']}}",
    ],
)
def test_a_config_that_is_odd_but_plain_is_compared(tmp_path: Path, config: str) -> None:
    run = make_run(tmp_path / "odd")
    (run / "config.yaml").write_text(config.format(run=run))
    assert collecting.collect([tmp_path]).broken == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.5", "50", "row 1: rank1 is 50"),
        (",exit,", ",leaves,", "kind is 'leaves'"),
        ("10000000", "-1", "row 1: mul_adds is -1"),
        ("early", "early,", "line 2: "),
        ("rank1_min", "rank1", "twice"),
    ],
)
def test_a_table_that_was_edited_badly(
    tmp_path: Path, old: str, new: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "a")
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 0
    change("frontier.csv", old, new)(tmp_path)
    assert main(["--from", str(tmp_path / "frontier.csv"), "--out", str(tmp_path / "b")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: --from") and reason.partition(": ")[2] in told


@pytest.mark.parametrize("content", [b"", b"a,b\n", bytes(range(256))])
def test_a_table_that_is_none(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.csv").write_bytes(content)
    assert main(["--from", str(tmp_path / "f.csv"), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: --from")


def test_an_interrupt_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "gather", interrupted)
    assert main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_data_sets_of_like_names_have_folders_of_their_own(tmp_path: Path) -> None:
    names = ["a b", "a-b", "A b", "///", "x" * 200, "x" * 201]
    points = [Point(name, "m", "exit", "e", 0.5, 0.5, 1e6) for name in names]
    folders = [folder for *_, folder in tables.by_dataset(points, tmp_path)]
    assert [f.name for f in folders][:4] == ["a_b", "a_b_2", "A_b_3", "dataset"]
    assert len({f.name.lower() for f in folders}) == 6 and max(len(f.name) for f in folders) < 120


@pytest.mark.filterwarnings("ignore:Attempting to set identical")  # by matplotlib
@pytest.mark.parametrize("costs", [(0.0, 0.0), (1e-300, 1e18), (float("nan"), 1e6), (0.0, 5e-324)])
def test_costs_at_the_limits_are_drawn_or_left_out(costs: tuple[float, float]) -> None:
    points = [Point("d", f"m{c}", "exit", "e", 0.5, 0.5, c) for c in costs]
    figure = frontier(points, "mul_adds", "rank1")
    assert (figure is None) == (max(c for c in costs if c == c) == 0)
    if figure:
        figure.canvas.draw()  # type: ignore[attr-defined]
