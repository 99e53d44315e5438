"""experiments/mutation: what is changed, that it is one thing, and that a killed run continues."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.mutation import __main__ as mutation
from experiments.mutation.sites import mutated, sites

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
    rows[0]["outcome"] = "survived"
    ran: list[str] = []

    def noted(row: mutation.Row, commit: str, tree: Path) -> mutation.Row:
        ran.append(row["file"])
        return {"outcome": "killed"}

    monkeypatch.setattr(mutation, "git", lambda *_: b"abc\n")
    monkeypatch.setattr(mutation, "check_unchanged", lambda commit: None)
    monkeypatch.setattr(mutation, "outcome_of", noted)
    mutation.save(tmp_path / "mutants.csv", rows)
    out = ["--out", str(tmp_path)]
    assert mutation.main([*out, "--limit", "3"]) == mutation.main(out) == 0
    assert ran == ["1", "2", "3", "4"]
    assert "4/5 = 80.0%" in capsys.readouterr().out
    mutation.main([*out, "--again"])
    assert ran[-1] == "0" and "5/5" in capsys.readouterr().out
