"""Data flows one way: a package imports only from those to its left."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Set
from pathlib import Path
from types import ModuleType

import pytest
import pytorch_lightning as pl
from torch import nn

import reid_lab

PACKAGE = Path(reid_lab.__file__).parent
ORDER = ["compat", "vectors", "files", "output", "images", "openset", "gallery_format"]
ORDER += ["results", "dataset"]
ORDER += ["backbone", "loss", "search", "classical"]
ORDER += [
    "model",
    "checkpoint",
    "retrieval",
    "cost",
    "budget",
    "runtime",
    "serve",
    "report",
    "callbacks",
    "config",
    "frontier",
]
ORDER += ["run", "gallery", "profiling", "doctor", "export", "cli"]
PLAIN = ("vectors", "openset", "gallery_format", "search", "frontier", "retrieval", "cost")
PLAIN += ("budget", "runtime", "serve", "report", "classical")
# modules and names that Windows or macOS lack
POSIX = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "msvcrt", "winreg"}
ELSEWHERE = {"os.fork", "os.geteuid", "os.getuid", "os.killpg", "os.setsid", "os.uname"}
ELSEWHERE |= {"os.sched_getaffinity", "os.O_DIRECTORY", "os.O_NOFOLLOW", "os.mkfifo"}
ELSEWHERE |= {"signal.SIGKILL", "signal.SIGHUP", "signal.SIGALRM", "signal.SIGUSR1"}
# modules outside cli/ that print, and why
PRINTING = {
    "__main__.py": "Hydra's command line",
    "callbacks/progress.py": "Lightning's progress bar",
    "export/timed.py": "a process of ours, whose parent reads the line",
}
# what takes long in a training shows a bar on stderr
BARS = {"callbacks/embedding.py", "callbacks/progress.py", "dataset/images.py"}
BARS |= {"dataset/readers/cuhk03_mat.py", "dataset/synthetic/writer.py"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMMON = {"types", "errors", "optional", "protocol", "interrupt"}  # of no layer


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what a file imports when it runs; imports for types alone are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def files_of(layer: str) -> list[Path]:
    """The files of a package, or of a module at the top."""
    module = PACKAGE / f"{layer}.py"
    files = [module] if module.is_file() else sorted((PACKAGE / layer).rglob("*.py"))
    return [path for path in files if path.name != "__main__.py"]  # they start the command line


def test_everything_has_its_place() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert found | modules == {*ORDER, *COMMON}
    assert len(modules) <= 5


def test_contributing_lists_the_packages_in_order() -> None:
    text = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, table = text.split("| package | has |")
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(cells)) == ORDER


@pytest.mark.parametrize("layer", ORDER)
def test_imports_come_from_the_left(layer: str) -> None:
    allowed = {*ORDER[: ORDER.index(layer) + 1], *COMMON}
    if layer == "cli":
        allowed.add("__main__")  # Hydra's entry
    for path in files_of(layer):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("reid_lab.")}
        assert ours <= allowed, f"{path} imports {ours - allowed}"


def test_the_package_does_not_name_the_studies() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert "experiments/" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("layer", PLAIN)
def test_plain_packages_know_neither_lightning_nor_hydra(layer: str) -> None:
    for path in (PACKAGE / layer).rglob("*.py"):
        names = {*imports(path)}
        roots = {name.split(".")[0] for name in names}
        assert not roots & {"pytorch_lightning", "hydra", "omegaconf", "wandb"}, path
        assert not any(name.startswith("reid_lab.compat") for name in names), path


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names(package: ModuleType) -> set[str]:
    """Private functions, classes and attributes that a package defines."""
    found = set()
    for path in Path(str(package.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return {*filter(is_private, found)}


def private_uses(source: str, theirs: Set[str]) -> list[str]:
    """Uses of private names of Lightning (`theirs`), and imports of Lightning's or Hydra's."""
    tree = ast.parse(source)
    nodes = [*ast.walk(tree)]
    ours = {n.name for n in nodes if isinstance(n, ast.FunctionDef)} | {
        n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
    }
    found = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in theirs:
            own = isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr in ours
            found += [] if own else [node.attr]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            found += filter(is_private, names if names[0] in ("pytorch_lightning", "hydra") else [])
    return found


def test_private_names_of_lightning_and_hydra_are_used_in_one_package() -> None:
    theirs = private_names(pl) - {name for name in dir(nn.Module) if is_private(name)}
    theirs |= {"_return_value", "_option_string_actions"}  # of Hydra
    paths = [p for p in sorted(PACKAGE.rglob("*.py")) if p.parent.name != "compat"]
    found = {p.name: private_uses(p.read_text(encoding="utf-8"), theirs) for p in paths}
    assert {name: uses for name, uses in found.items() if uses} == {}
    text = """
from hydra._internal.utils import x
from pytorch_lightning.loops import _FitLoop, Loop
class A:
    def __init__(self): self._has_run = self._results = 1
    def f(self): return self._has_run, self._trainer, loop._has_run
"""
    uses = ["_internal", "_FitLoop", "_trainer", "_has_run"]
    assert sorted(private_uses(text, theirs)) == sorted(uses)


@pytest.mark.parametrize("layer", [layer for layer in ORDER if layer != "cli"])
def test_arguments_of_the_command_line_stay_in_cli(layer: str) -> None:
    """What a command does can be called from Python, with keyword arguments."""
    assert [path for path in files_of(layer) if "argparse" in imports(path)] == []


def prints(tree: ast.AST) -> Iterator[str]:
    """Calls that write to the terminal: of print, or of a console."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "print" or re.search(r"(std(out|err)|[Cc]onsole)\.(print|write)$", name):
                yield name


def test_only_cli_prints() -> None:
    """Packages return results, and log what informs at INFO."""
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for names in [{*prints(ast.parse(path.read_text(encoding="utf-8")))}]
        if names
    }
    assert found.keys() == PRINTING.keys()
    consoles = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "reid_lab.output.console"
        if {alias.name for alias in node.names} != {"NOTHING"}
    }
    assert {file for file in consoles if not file.startswith("cli/")} == BARS
    text = "print(1); stdout.print(2); sys.stderr.write(3); self._bar.console.print(4); pprint(5)"
    assert len([*prints(ast.parse(text))]) == 4


def test_signals_are_handled_in_one_place() -> None:
    """For runs, commands and the service; a pattern has a time limit, workers ignore Ctrl-C."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "signal.signal(" in path.read_text(encoding="utf-8")
    }
    assert found == {"interrupt.py", "gallery/images.py", "dataset/workers.py"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_every_module_can_be_imported_on_any_platform(path: Path) -> None:
    """What only some platforms have is imported or looked up where it is used, and guarded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {id(n) for f in ast.walk(tree) if isinstance(f, FUNCTIONS) for n in ast.walk(f)}
    now = [node for node in ast.walk(tree) if id(node) not in later]
    names = {
        alias.name.split(".")[0] for n in now if isinstance(n, ast.Import) for alias in n.names
    }
    names |= {n.module.split(".")[0] for n in now if isinstance(n, ast.ImportFrom) and n.module}
    assert not names & POSIX
    used = {ast.unparse(n) for n in now if isinstance(n, ast.Attribute)}
    assert not used & ELSEWHERE


def classes() -> Iterator[tuple[str, str]]:
    """(class, file) of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name, path.relative_to(PACKAGE).as_posix()


def test_no_two_classes_share_a_name() -> None:
    files: dict[str, list[str]] = {}
    for name, file in classes():
        files.setdefault(name, []).append(file)
    assert not {name: found for name, found in files.items() if len(found) > 1}


def statements(path: Path) -> list[tuple[int, str]]:
    """Number and text of a file's lines without imports, signatures, docstrings and comments."""
    text = path.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
            left_out |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        elif isinstance(node, FUNCTIONS) and not isinstance(node, ast.Lambda):
            left_out |= {*range(node.lineno, node.body[0].lineno)}
    lines = enumerate(text.splitlines(), 1)
    kept = [(n, line.strip()) for n, line in lines if n not in left_out]
    return [(n, line) for n, line in kept if line and not line.startswith("#")]


def clones(paths: list[Path], length: int = 8) -> list[str]:
    """Places of `length` lines that are elsewhere, too."""
    seen: dict[tuple[str, ...], str] = {}
    found = []
    for path in paths:
        lines = statements(path)
        for start in range(len(lines) - length + 1):
            part = tuple(line for _, line in lines[start : start + length])
            place = f"{path.name}:{lines[start][0]}"
            if seen.setdefault(part, place) != place:
                found.append(f"{seen[part]} and {place}")
    return found


def test_the_package_does_not_name_studies() -> None:
    """They measure it, and come and go; the documentation names them."""
    named = re.compile(r"\bexperiments[/.]\w")
    for path in PACKAGE.rglob("*.py"):
        assert not named.search(path.read_text(encoding="utf-8")), path


def test_nothing_is_written_twice(tmp_path: Path) -> None:
    assert clones(sorted(PACKAGE.rglob("*.py"))) == []
    body = "\n".join(f"    x = {number}  # {number}" for number in range(8))
    (tmp_path / "a.py").write_text(f"import os\n\ndef f(x):\n{body}\n    return x\n")
    (tmp_path / "b.py").write_text(f"def g(y, x):\n    'Text.'\n{body}\n    return y\n")
    assert clones([tmp_path / "a.py", tmp_path / "b.py"]) == ["a.py:4 and b.py:3"]
