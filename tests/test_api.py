"""What `reid_lab` offers at its top, and what the releases' files say of it."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import reid_lab

ROOT = Path(__file__).parents[1]
NAMES = [name for name in reid_lab.__all__ if name != "__version__"]
HEAVY = ("torch", "numpy", "pytorch_lightning", "hydra", "torchmetrics")
IMPORTED = "import sys, reid_lab; dir(reid_lab); print(reid_lab.__version__, *sys.modules)"


def imported_for_types() -> dict[str, str]:
    """Name -> module, of the imports that type checkers and editors read."""
    tree = ast.parse(Path(reid_lab.__file__).read_text(encoding="utf-8"))
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


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_its_home_has(name: str) -> None:
    home = imported_for_types()[name]
    assert getattr(reid_lab, name) is getattr(import_module(home), name)
    assert name in dir(reid_lab)


def test_type_checkers_see_every_name_and_no_other() -> None:
    assert sorted(imported_for_types()) == sorted(NAMES)
    assert (Path(reid_lab.__file__).parent / "py.typed").is_file()


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'reid_lab' has no attribute 'fit'"):
        _ = reid_lab.fit


def test_the_releases_files_name_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == reid_lab.__version__
    headings = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert any(heading.startswith(f"[{reid_lab.__version__}]") for heading in headings)
