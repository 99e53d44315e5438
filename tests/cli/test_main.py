"""One command for all tools: each is reached, and a mistyped name is answered."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from reid_lab.cli.main import COMMANDS, RUN, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in COMMANDS) and "examples:" in printed
    assert main([]) == 2  # nothing was asked for
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_reached(name: str, tmp_path: Path) -> None:
    script = tmp_path / "reid-lab"
    script.write_text("import sys; from reid_lab.cli.main import main; sys.exit(main())")
    words = [sys.executable, str(script), name, "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    usage = "python -m reid_lab +experiment=demo" if name == RUN else f"usage: reid-lab {name} "
    assert usage in done.stdout


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["run", "-m", "+experiment=demo"], ["-m", "+experiment=demo"]),
        (["+experiment=demo", "seed=1"], ["+experiment=demo", "seed=1"]),  # without `run`
        (["-m", "seed=1,2"], ["-m", "seed=1,2"]),
    ],
)
def test_a_run_gets_its_overrides(
    monkeypatch: pytest.MonkeyPatch, words: list[str], called: list[str]
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["reid-lab", "left"])
    monkeypatch.setattr("reid_lab.__main__.main", lambda: seen.append(sys.argv[1:]))
    assert main(words) == 0 and seen == [called]


def test_a_status_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_lab.gallery.__main__.main", lambda words: len(words))
    assert main(["gallery", "info", "g"]) == 2


@pytest.mark.parametrize(
    ("word", "hint"), [("galery", "did you mean gallery?"), ("xyz", "available: run, doctor")]
)
def test_an_unknown_command(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    assert f"unknown command {word}; {hint}" in capsys.readouterr().err


def test_the_package_installs_it() -> None:
    project = Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
    script = re.search(r'^reid-lab = "([\w.]+):(\w+)"$', project, re.MULTILINE)
    assert script and getattr(import_module(script[1]), script[2]) is main
