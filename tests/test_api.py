"""What `reid_lab` offers at its top, and what the releases' files say of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
import yaml

import reid_lab

ROOT = Path(__file__).parents[1]
LAZY = ("reid_lab", "reid_lab.budget", "reid_lab.config", "reid_lab.dataset", "reid_lab.doctor")
LAZY += ("reid_lab.export", "reid_lab.frontier", "reid_lab.gallery", "reid_lab.profiling")
LAZY += ("reid_lab.report", "reid_lab.retrieval", "reid_lab.run", "reid_lab.serve")
NAMES = [
    (package, name)
    for package in LAZY
    for name in import_module(package).__all__
    if name != "__version__"
]
HEAVY = ("torch", "numpy", "pytorch_lightning", "hydra", "torchmetrics")
IMPORTED = "import sys, reid_lab; dir(reid_lab); print(reid_lab.__version__, *sys.modules)"


def imported_for_types(package: str) -> dict[str, str]:
    """Name -> module, of the imports that type checkers and editors read."""
    tree = ast.parse(Path(str(import_module(package).__file__)).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    found = (n for n in block.body if isinstance(n, ast.ImportFrom))
    return {alias.name: str(node.module) for node in found for alias in node.names}


def test_importing_the_package_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True
    )
    version, *modules = done.stdout.split()
    assert version == reid_lab.__version__
    assert not {*HEAVY} & {*modules}


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_name_is_what_its_home_has(package: str, name: str) -> None:
    home = imported_for_types(package)[name]
    offered = import_module(package)
    assert getattr(offered, name) is getattr(import_module(home), name)
    assert name in dir(offered)


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_see_every_name_and_no_other(package: str) -> None:
    assert sorted(imported_for_types(package)) == sorted(n for p, n in NAMES if p == package)


@pytest.mark.parametrize("package", sorted({*LAZY, "reid_lab.checkpoint", "reid_lab.retrieval"}))
def test_no_name_is_a_function_and_a_module(package: str) -> None:
    """Once its module is imported, the name would be the module."""
    offered = import_module(package)
    assert not {*offered.__all__} & {module.name for module in iter_modules(offered.__path__)}


def test_the_package_is_typed() -> None:
    assert (Path(reid_lab.__file__).parent / "py.typed").is_file()


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'reid_lab' has no attribute 'fit'"):
        _ = reid_lab.fit


def test_the_releases_files_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == reid_lab.__version__
    headings = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert any(heading.startswith(f"[{reid_lab.__version__}]") for heading in headings)
