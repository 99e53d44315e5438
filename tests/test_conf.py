"""The configs against the code: one home for every number, one group a package."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

import reid_lab
from reid_lab.dataset.synthetic import Recipe
from reid_lab.paths import conf_dir
from tests.conftest import Compose

# what no package implements: third-party classes, and compositions of the others
WITHOUT_PACKAGE = {"trainer", "logger", "experiment", "sweep"}
# scratch for a plain Python user, who may have no network; the papers start from ImageNet.
# What Lightning's checkpoints do by default is not what ours do.
DIFFERENT = {"weights", "save_last", "save_top_k", "every_n_train_steps", "enable_version_counter"}
HOMES = ["dataset", "loss", "model", "backbone", "callbacks"]


def nodes(config: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """(dotted key, node) of everything with a target of ours."""
    if isinstance(config, DictConfig):
        if str(config.get("_target_", "")).startswith("reid_lab."):
            yield key, config
        for name in config:
            if not (OmegaConf.is_interpolation(config, name) or OmegaConf.is_missing(config, name)):
                yield from nodes(config[name], f"{key}.{name}")


@pytest.mark.parametrize("home", HOMES)
def test_defaults_in_code_equal_the_yaml(composed: Compose, home: str) -> None:
    compared = 0
    choices = ["dataset=market1501", "backbone=small"]
    for key, node in nodes(composed(*choices, small=False)[home]):
        parameters = inspect.signature(get_object(node["_target_"])).parameters
        for name, parameter in parameters.items():
            if name not in node or name in DIFFERENT or OmegaConf.is_interpolation(node, name):
                continue
            if OmegaConf.is_missing(node, name) or parameter.default is inspect.Parameter.empty:
                continue
            value = node[name]
            value = tuple(value) if OmegaConf.is_list(value) else value
            if not OmegaConf.is_dict(value):
                assert value == parameter.default, f"{home}{key}.{name}"
                compared += 1
    assert compared


def test_the_recipe_of_people_has_one_home(composed: Compose) -> None:
    raw = OmegaConf.load(conf_dir() / "dataset" / "synthetic.yaml")
    assert dict(raw.recipe) == {"_target_": raw.recipe["_target_"], **asdict(Recipe())}


def test_groups_mirror_the_packages() -> None:
    package = Path(reid_lab.__file__).parent
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert all((package / group).is_dir() for group in groups - WITHOUT_PACKAGE)


@pytest.mark.parametrize("group", ["dataset", "backbone", "model", "loss", "trainer", "logger"])
def test_every_choice_composes(composed: Compose, group: str) -> None:
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        if path.stem != "base":
            cfg = composed(f"{group}={path.stem}", small=False)
            OmegaConf.to_container(cfg, resolve=True)
