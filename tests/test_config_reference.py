"""docs/config.md: the keys of conf/ with default, allowed values and meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import Mock

import pytest
from annotated_types import Ge, Le

from docs.config_reference import PLACE, Key, allowed_of, described, files, filled, keys
from reid_lab.config.choices import conf_dir, default_choices
from reid_lab.model import HAN, PLA
from reid_lab.types import PerCore

CONF = conf_dir()
DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "config.md").read_text("utf-8")
FILES = [
    CONF / "config.yaml",
    *(file for group in default_choices() for file in files(CONF / group)),
]


def test_every_group_has_its_place() -> None:
    assert {*PLACE.findall(PAGE)} == {"config.yaml", *default_choices()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_key_has_a_meaning_and_allowed_values(path: Path) -> None:
    assert [key.name for key in keys(path) if not key.meaning or not key.allowed] == []


def test_a_key_is_described() -> None:
    found = {key.name: key for key in keys(CONF / "model" / "classifier.yaml")}
    assert found["model.lr"] == Key(
        "model.lr", "0.01", "a number > 0 and <= 1000", "learning rate at the start."
    )
    assert str(found["model.fc"]).startswith(
        "- `model.fc` = `null` (an integer >= 1 and <= 65536 or"
    )
    assert found["model.milestones"].default == "[]"


def test_maxima_do_not_depend_on_the_machine() -> None:
    found = {key.name: key for path in FILES for key in keys(path)}
    assert found["threads"].allowed == "an integer >= 1 and <= max(64, 4 x CPU cores) or null"
    assert found["dataset.workers"].allowed == "an integer >= 0 and <= max(64, 2 x CPU cores)"
    large: Any = Annotated[int, Ge(1), Le(1024), PerCore(4)]  # on 256 cores
    assert allowed_of(large | None) == found["threads"].allowed


def test_keys_of_a_base_are_listed_once() -> None:
    shared = {key.name for key in keys(CONF / "dataset" / "_datamodule.yaml")}
    assert "dataset.p" in shared
    assert [str(key) for key in keys(CONF / "dataset" / "dukemtmc.yaml")] == []
    folder = {key.name: key.default for key in keys(CONF / "dataset" / "folder.yaml")}
    assert folder == {"dataset.reader.name": "folder", "dataset.p": "auto"}
    recipe = {key.name: key for key in keys(CONF / "model" / "_trinet.yaml")}
    assert "units" in recipe["model.hidden"].meaning  # of the class in dare.yaml


def test_references_to_other_docstrings_are_followed() -> None:
    assert described(PLA)["decay_from"].startswith("share of the training at which")
    assert "Equation 10 is the same schedule" in described(PLA)["decay_from"]
    assert described(PLA)["p"].startswith("rank of the negative")  # over two references
    assert described(HAN)["epoch"].startswith("steps per epoch; null: ")


def test_other_packages_are_quoted_in_short_with_our_comments() -> None:
    found = {key.name: key.meaning for key in keys(CONF / "callbacks" / "checkpoint.yaml")}
    assert found["callbacks.checkpoint.dirpath"] == "Directory to save the model file."
    found = {key.name: key.meaning for key in keys(CONF / "trainer" / "default.yaml")}
    assert (
        found["trainer.log_every_n_steps"]
        == "How often to log within steps. The first is logged, too."
    )


def test_the_page_is_filled() -> None:
    text = filled(PAGE)
    assert "<!-- keys" not in text and not re.search(r"\bsee `(SgdRecipe|ResNet|DaRe)`", text)
    assert "``" not in text.replace("```", "")  # of other packages' reStructuredText
    for line in ("### dataset=csv", "### anytime", "### callbacks=finetune", "### trinet"):
        assert f"\n{line}\n" in text
    heads = re.findall(r"^#+ .*$", text, re.MULTILINE)
    assert len(heads) == len({*heads})
    assert text.count("`model.loss` = `${loss}`") >= 3


def test_the_site_fills_the_page(site: dict[str, Any]) -> None:
    pages = {"config": [PAGE], "training": ["<!-- keys of conf/loss -->"]}
    for name, source in pages.items():
        site["add_keys"](Mock(), name, source)
    assert pages == {"config": [filled(PAGE)], "training": ["<!-- keys of conf/loss -->"]}
