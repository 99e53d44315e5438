"""A method or backbone in a module of its package is found without a list."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import reid_lab.backbone
import reid_lab.model
from reid_lab.optional import concrete_classes

PACKAGE = {
    "__init__.py": "class Base: ...",
    "one.py": """
from abc import ABC, abstractmethod
from found_here import Base
class Abstract(Base, ABC):
    @abstractmethod
    def step(self): ...
class One(Abstract):
    def step(self): ...
class _Hidden(Base): ...
class Other: ...
""",
    "two.py": "from found_here import Base\nfrom found_here.one import One\nclass Two(One): ...",
}


def test_concrete_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in PACKAGE.items():
        (tmp_path / "found_here").mkdir(exist_ok=True)
        (tmp_path / "found_here" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import found_here  # type: ignore[import-not-found]

    found = concrete_classes("found_here", found_here.Base)
    assert {name: cls.__module__ for name, cls in found.items()} == {
        "One": "found_here.one",
        "Two": "found_here.two",
    }
    for name in [name for name in sys.modules if name.startswith("found_here")]:
        del sys.modules[name]


def test_methods_and_backbones_are_found() -> None:
    assert reid_lab.model.METHODS["DaRe"] is reid_lab.model.DaRe
    assert reid_lab.backbone.BACKBONES["ResNet"] is reid_lab.backbone.ResNet
    assert "TriNetRecipe" not in reid_lab.model.METHODS
    assert "Backbone" not in reid_lab.backbone.BACKBONES
