"""The image of the service has what its extra has; it leaves out what needs torch."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.dockerfile import parse

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
tomllib = pytest.importorskip("tomllib")  # Python 3.11


# the files that the service, and the export of its people, import
IMPORTED = """
import sys
import reid_lab.cli.main, reid_lab.serve.open, reid_lab.serve.people_export
print(*(m.__file__ for name, m in sys.modules.items() if name.partition(".")[0] == "reid_lab"))
"""
ELSEWHERE = {"reid_lab", "msvcrt"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=;\[]", requirement)[0] for requirement in requirements}


def listed() -> set[str]:
    """The packages that the service's stage installs."""
    stage = TEXT.split(" AS serve\n")[1]
    stage = stage.split("\nFROM ")[0]
    step = stage.split("--constraint")[1].split("&&")[0].replace("\\", " ").split()
    return {*step[1:]}


def imported(path: Path) -> set[str]:
    """The packages that a file imports as soon as it is imported."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found - sys.stdlib_module_names - ELSEWHERE


def test_the_service_is_installed_with_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = listed()
    extra = names(project["optional-dependencies"]["serve"])
    assert extra <= installed
    assert installed <= extra | names(project["dependencies"])
    assert not {name for name in installed if "torch" in name}


@pytest.mark.system
def test_the_service_imports_what_is_installed_alone() -> None:
    call = [sys.executable, "-c", IMPORTED]
    files = subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()
    modules = {module for file in files for module in imported(Path(file))}
    owners = packages_distributions()
    assert {"numpy", "fastapi", "yaml"} <= modules
    needed = {re.sub("_", "-", owners[module][0].lower()) for module in modules}
    assert needed <= listed() | {"starlette"}  # which FastAPI requires


@pytest.mark.system
def test_the_service_s_steps_in_a_fresh_environment(tmp_path: Path) -> None:
    """What the stage copies and installs is enough for the service to start, without torch."""
    (stage,) = (stage for stage in parse(TEXT)[1] if stage.name == "serve")
    source, environment = tmp_path / "src", tmp_path / "venv"
    for step in stage.of("COPY"):
        *paths, target = step.words
        folder = tmp_path / target.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, folder, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / path, folder)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(binaries / "python")
    probe = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path)]
    if subprocess.run([*probe, "annotated-types"], capture_output=True).returncode:
        pytest.skip("pip cannot download packages here")
    installs = [c for step in stage.of("RUN") for c in step.commands if " pip install " in c]
    assert len(installs) == 2
    for command in installs:
        words = [word.replace("/src", str(source), 1) for word in command.split()[1:]]
        subprocess.run([python, *words, "--quiet"], check=True, cwd=tmp_path)
    (entry,) = (json.loads(step.text) for step in stage.of("ENTRYPOINT"))
    call = [binaries / entry[0], *entry[1:], "--help"]
    helped = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert helped.returncode == 0 and "--people" in helped.stdout, helped.stderr
    for name, there in (("torch", "None"), ("onnxruntime", "ModuleSpec")):
        code = f"import importlib.util as i; print(i.find_spec({name!r}))"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert found.stdout.startswith(there), found
