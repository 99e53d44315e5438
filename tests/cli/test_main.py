"""One command for everything: each subcommand is reached, and a mistyped name is answered."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from reid_lab import __version__
from reid_lab.cli.gallery_content import ACTIONS
from reid_lab.cli.main import RUN, complete, main, tree
from reid_lab.config.choices import choices, default_choices, groups
from tests.frontier.runs import make_run

COMMANDS = list(tree()[1])
# command -> the module that it was run as before 0.2
SLOW = {"torch", "numpy", "matplotlib", "hydra", "pydantic", "faiss", "pytorch_lightning", "rich"}


def call(*words: str, module: str = "reid_lab.cli") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^ +{name}\s+\w", printed, re.M) for name in COMMANDS)
    assert "examples:" in printed
    assert main([]) == 2
    assert capsys.readouterr().out == printed
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != RUN])
def test_every_command_has_help_and_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: reid-lab {name} ")
    assert f"examples:\n  reid-lab {name} " in printed


def test_what_was_never_run_is_experimental(capsys: pytest.CaptureFixture[str]) -> None:
    """By the rows of the support matrix that say so."""
    docs = Path(__file__).parents[2] / "docs"
    matrix = (docs / "support_matrix.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", matrix.partition("## Exports")[2], re.M)
    never = {what for what, state in rows if re.search(r"^not run|server was not run", state)}
    assert {"TensorRT", "Triton"} <= never
    page = (docs / "export.md").read_text(encoding="utf-8")
    for what in never & {"TensorRT", "Triton"}:
        assert re.search(rf"^#+ {what} \(experimental\)$", page, re.M)
    assert main(["export", "--help"]) == 0
    assert re.search(r"--triton\s+experimental", capsys.readouterr().out)
    assert "Ray are experimental" in (docs / "training.md").read_text(encoding="utf-8")


def test_help_of_a_run_is_a_help_text(tmp_path: Path) -> None:
    """Not the whole config, which `--cfg job` prints."""
    (tmp_path / "mine" / "backbone").mkdir(parents=True)
    (tmp_path / "mine" / "backbone" / "tiny.yaml").touch()
    done = call(RUN, "--config-dir", str(tmp_path / "mine"), "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("usage: reid-lab run ") and "_target_" not in done.stdout
    assert "python -m reid_lab +experiment=demo" in done.stdout
    text = re.sub(r"\n {6}", " ", done.stdout)
    for group in groups():
        plus = "+" * (group in ("experiment", "sweep"))
        (line,) = re.findall(rf"^  {re.escape(plus + group)}(?: \[.*?\])?: (.*)$", text, re.M)
        own = ["tiny"] if group == "backbone" else []
        assert line.split(", ") == sorted([*choices(group), *own])
    assert all(f" {group} [{name}]: " in text for group, name in default_choices().items())
    assert "--cfg job" in text and len(re.findall("^  reid-lab run ", text, re.M)) == 3
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("words", [["gallery", "build"], ["frontier"], ["run"], []], ids=str)
def test_help_imports_nothing_slow(words: list[str]) -> None:
    imported = modules_after([*words, "--help"])
    assert not {*SLOW, "hydra", "omegaconf"} & imported


def modules_after(words: list[str]) -> set[str]:
    """The packages that a command has imported."""
    code = f"import sys; from reid_lab.cli.main import main; main({words!r})"
    code += "; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_reading_runs_imports_neither_torch_nor_lightning(tmp_path: Path) -> None:
    callbacks = "callbacks: {ranking: {_target_: reid_lab.callbacks.RankingEvaluation}}\n"
    for seed, name in enumerate("ab"):
        make_run(tmp_path / "runs" / name, "one", seed, more=callbacks)
    for words in (
        ["frontier", str(tmp_path / "runs"), "--out", str(tmp_path / "out")],
        ["compare", str(tmp_path / "runs/a"), str(tmp_path / "runs/b")],
    ):
        assert not {"torch", "pytorch_lightning", "hydra", "scipy"} & modules_after(words)
    assert (tmp_path / "out" / "frontier.html").is_file()


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
    monkeypatch.setitem(ACTIONS, "info", lambda args: 2 + (args.gallery.name == "g"))
    assert main(["gallery", "info", "g"]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("galery", "unknown command galery; did you mean gallery?"),
        ("xyz", "unknown command xyz; available: run, doctor"),
        ("gallery", "the following arguments are required: ACTION"),
        ("gallery info", "the following arguments are required: gallery"),
        ("export --out x", "the following arguments are required: --checkpoint"),
        ("cost --batch-size 0", "argument --batch-size: 0 is less than 1"),
        ("doctor --sheet a.txt", "'a.txt' does not end in .png, .jpg, .jpeg"),
        ("frontier", "give run folders, as runs/*/, or --from frontier.csv"),
        ("frontier runs --max-mul-adds x", "x is not a number >= 0"),
        ("runtime exported a.jpg", "nothing to do: give --out, --gallery, or both"),
        ("workspace me", "me is not ENTITY/PROJECT"),
    ],
)
def test_usage_errors_have_one_style(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and message in printed.err and not printed.out


@pytest.mark.parametrize(
    ("words", "dest", "default"),
    [("cost --batch 7", "batch", 32), ("gallery calibrate g --most 7", "most", 2000)],
)
def test_old_names_of_options_work(words: str, dest: str, default: int) -> None:
    name, *rest = words.split()
    parser = tree()[1][name]
    assert getattr(parser.parse_args(rest), dest) == 7
    assert getattr(parser.parse_args(rest[:-2]), dest) == default


def test_completions_come_from_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Stub:
        autocomplete = staticmethod(seen.append)

    parser, _ = tree()
    monkeypatch.setitem(sys.modules, "argcomplete", Stub)  # type: ignore[arg-type]
    complete(parser)
    assert seen == [parser]
    monkeypatch.setitem(sys.modules, "argcomplete", None)  # type: ignore[arg-type]
    complete(parser)  # not installed
    assert seen == [parser]


def test_a_shell_gets_its_completions(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    line = "reid-lab gallery bu"
    out = tmp_path / "out"
    env = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    env |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(out), "_ARGCOMPLETE_IFS": "\n"}
    env |= {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-m", "reid_lab.cli"], env=env, check=False)
    assert out.read_text().split() == ["build"]


def test_the_package_installs_it() -> None:
    project = Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
    script = re.search(r'^reid-lab = "([\w.]+):(\w+)"$', project, re.MULTILINE)
    assert script and getattr(import_module(script[1]), script[2]) is main
