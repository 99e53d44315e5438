"""experiments/mutation: what is changed, that it is one thing, and that a killed run continues."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from experiments.mutation import __main__ as mutation
from experiments.mutation.executed import Executed, lines_of
from experiments.mutation.sites import mutated, sites
from experiments.mutation.trial import Trial, measure

SOURCE = '''"""Left alone."""
from math import sqrt


def half(x: float, by: int = 2, *, exact: bool = True) -> float:
    """Left alone."""
    if x < 0 and not exact:
        raise ValueError(f"x={x + 1}")
    rows = [sqrt(y) for y in (x,) if y != 1]
    return -rows[0] / by
'''
CHANGES = {
    ("default", "2", "3"),
    ("default", "True", "False"),
    ("condition", "x < 0 and not exact", "not (x < 0 and (not exact))"),
    ("operator", "x < 0 and not exact", "(x < 0 or not exact)"),
    ("comparison", "x < 0", "(x <= 0)"),
    ("operator", "not exact", "(exact)"),
    ("constant", "0", "1"),
    ("statement", "rows = [sqrt(y) for y in (x,) if y != 1]", "pass"),
    ("call", "sqrt(y)", "(y)"),
    ("comparison", "y != 1", "(y == 1)"),
    ("condition", "y != 1", "not (y != 1)"),
    ("constant", "1", "2"),
    ("operator", "-rows[0]", "(rows[0])"),
    ("arithmetic", "-rows[0] / by", "(-rows[0] * by)"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "half.py"
    path.write_text(SOURCE)
    return path


def test_what_is_changed(file: Path, tmp_path: Path) -> None:
    found = sites(file, tmp_path)
    assert {(site.kind, site.before, site.after) for site in found} == CHANGES
    assert len({site.key for site in found}) == len(found)
    assert {site.where for site in found} == {"half"} and found[0].file == "half.py"
    for site in found:
        changed = mutated(SOURCE.encode(), site).decode()
        compile(changed, "half.py", "exec")
        assert changed.count("\n") == SOURCE.count("\n") and changed != SOURCE


def test_a_mutation_is_found_again_where_lines_were_added(file: Path, tmp_path: Path) -> None:
    before = [site.key for site in sites(file, tmp_path)]
    file.write_text("# one\n\n" + SOURCE)
    assert [site.key for site in sites(file, tmp_path)] == before


def test_shares_leave_out_what_is_equivalent_or_has_not_run() -> None:
    ended = ["killed"] * 85 + ["timeout"] * 5 + ["survived"] * 10 + ["equivalent", "gone", ""]
    share = mutation.share({"outcome": outcome} for outcome in ended)
    assert (share.killed, share.total) == (90, 100)
    assert share.interval == pytest.approx((0.826, 0.945), abs=1e-3)  # Wilson's


def test_a_run_continues_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("file", "where", "kind", "before", "after", "nth", "line")
    rows = [
        {**dict.fromkeys(mutation.COLUMNS, ""), **dict.fromkeys(names, str(n)), "package": "loss"}
        for n in range(5)
    ]
    rows[0] |= {"outcome": "survived", "first": "survived"}
    ran: list[str] = []

    class Workshop:
        def __init__(self, commit: str, base: None) -> None:
            pass

        def start(self, row: mutation.Row, folder: Path, seconds: float) -> mutation.Row:
            ran.append(row["file"])
            return {"outcome": "killed", "seconds": "0"}

    monkeypatch.setattr(mutation, "git", lambda *_: b"abc\n")
    monkeypatch.setattr(mutation, "load_libraries", lambda: None)
    monkeypatch.setattr(mutation, "Workshop", Workshop)
    mutation.save(tmp_path / "mutants.csv", rows)
    table = ["--table", str(tmp_path / "mutants.csv")]
    assert mutation.main([*table, "--limit", "3"]) == mutation.main(table) == 0
    assert ran == ["1", "2", "3", "4"]
    assert "4/5 = 80.0%" in capsys.readouterr().out
    mutation.main([*table, "--again"])
    assert ran[-1] == "0"
    assert "5/5" in (out := capsys.readouterr().out) and "first      4/5" in out


@pytest.mark.parametrize(
    ("ended", "outcome", "commit"),
    [("killed", "killed", "new"), ("survived", "survived", "new"), ("gone", "survived", "old")],
)
def test_what_is_gone_in_another_commit_stays_as_it_was(
    ended: str, outcome: str, commit: str
) -> None:
    row = {"commit": "old", "outcome": "survived", "first": "survived"}
    mutation.note(row, {"outcome": ended}, "new")
    assert row == {"commit": commit, "outcome": outcome, "first": "survived"}


LINES = '''"""A module."""
LIMIT = 1

def clipped(
    x: int,
    by: int = 2,
) -> int:
    if (
        x > 3
    ):
        return x * 4
    return max(
        x,
        -by + 5,
    )
'''


@pytest.mark.parametrize(
    ("before", "expected"),
    [("1", None), ("2", None), ("3", range(8, 11)), ("4", range(11, 12)), ("5", range(12, 16))],
)
def test_lines_of_a_mutation(before: str, expected: range | None, tmp_path: Path) -> None:
    (tmp_path / "clipped.py").write_text(LINES)
    (site,) = (s for s in sites(tmp_path / "clipped.py", tmp_path) if s.before == before)
    assert lines_of(site, LINES.encode()) == expected


def test_tests_of_a_line_the_fastest_first(tmp_path: Path) -> None:
    (tmp_path / "clipped.py").write_text(LINES)
    seconds = {"a/test_1.py::x": 3, "a/test_1.py::y": 1, "a/test_2.py::z": 2, "b/test_3.py::w": 1}
    lines = {"11": ["a/test_1.py::x", "a/test_2.py::z", "b/test_3.py::w"], "13": [*seconds]}
    executed = Executed(0.0, dict(seconds), {"clipped.py": lines})
    by_number = {site.before: site for site in sites(tmp_path / "clipped.py", tmp_path)}

    def tests_of(number: str) -> list[str]:
        return executed.tests_of(by_number[number], LINES.encode(), ["a"])

    assert tests_of("4") == ["a/test_2.py::z", "a/test_1.py::x"]
    every = tests_of("5")
    assert every == tests_of("1") == ["a/test_1.py::y", "a/test_2.py::z", "a/test_1.py::x"]
    assert tests_of("3") == []


PROJECT = {
    "src/reid_lab/__init__.py": "",
    "src/reid_lab/half/__init__.py": "def half(x):\n    y = x / 2\n    return y\n",
    "tests/test_half.py": """
import pytest
from reid_lab.half import half

@pytest.fixture(scope="module")
def shared():
    return half(4)

def test_shared(shared):
    assert shared == 2

@pytest.mark.parametrize("x", [1, 3])
def test_odd(x):
    assert x == 1 or half(x) == 1.5

def test_other():
    assert True
""",
}


@pytest.mark.system
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork for each mutant")
def test_a_trial_runs_the_tests_that_execute_the_change(tmp_path: Path) -> None:
    tree, file = tmp_path / "tree", tmp_path / "executed.json"
    for name, text in PROJECT.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    measure(tree, ["tests"], ["half"], file)
    executed = Executed.load(file)
    tests = [f"tests/test_half.py::test_{name}" for name in ("shared", "odd[1]", "odd[3]", "other")]
    assert sorted(executed.seconds) == sorted(tests)
    ((name, lines),) = executed.lines.items()
    assert name == "src/reid_lab/half/__init__.py"
    assert {number: set(found) for number, found in lines.items()} == {
        "1": set(tests),  # the import, by the module of tests
        "2": {tests[0], tests[2]},
        "3": {tests[0], tests[2]},
    }

    measure(tree, ["tests"], ["half"], file, tests[:3])
    assert list(Executed.load(file).seconds) == tests[3:]

    path = tree / name
    outcomes = []
    for changed in ("x / 2", "x * 2", "x / (2 if x == 4 else 1)", "next(iter(int, x))"):
        # compiled files are known by size and second, which two changes can share
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        path.write_text(PROJECT[name].replace("x / 2", changed))
        trial = Trial(tree, [tests[0], tests[2]], 60)
        while not (ended := trial.ended()):
            time.sleep(0.02)
        outcomes.append((ended["outcome"], ended["test"]))
    assert outcomes == [
        ("survived", ""),
        ("killed", tests[0]),
        ("killed", tests[2]),
        ("killed", tests[0]),
    ]
