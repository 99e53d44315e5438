"""The image of the service has what its extra has; it leaves out what needs torch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
tomllib = pytest.importorskip("tomllib")  # Python 3.11


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s<>=;\[]", requirement)[0] for requirement in requirements}


def test_the_service_is_installed_with_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").split(" AS serve\n")[1]
    stage = stage.split("\nFROM ")[0]
    step = stage.split("--constraint")[1].split("&&")[0].replace("\\", " ").split()
    installed = {*step[1:]}
    extra = names(project["optional-dependencies"]["serve"])
    assert extra <= installed
    assert installed <= extra | names(project["dependencies"])
    assert not {name for name in installed if "torch" in name}
