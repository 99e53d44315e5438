"""The configs against the code: one home for every number, one group a package."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

import reid_lab
from reid_lab.config.choices import choices, conf_dir
from reid_lab.dataset.synthetic import Recipe
from tests.conftest import Compose
from tests.methods import offered
from tests.recipes import RECIPES

ROOT = Path(__file__).parents[2]
# what no package implements: third-party classes, and compositions of the others
WITHOUT_PACKAGE = {"trainer", "logger", "experiment", "sweep"}
# scratch for a plain Python user, who may have no network; the papers start from ImageNet.
# What Lightning's checkpoints do by default is not what ours do.
DIFFERENT = {"weights", "save_last", "save_top_k", "every_n_train_steps", "enable_version_counter"}
# shallow ResNets have no published IBN; a recipe belongs to synthetic people
UNLISTED = {"ibn", "recipe"}
CHOICES = {home: offered(home) for home in ("loss", "model", "backbone")} | {
    "dataset": ["market1501"],
    "callbacks": ["default", "finetune"],
}


def nodes(config: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """(dotted key, node) of everything with a target of ours."""
    if isinstance(config, DictConfig):
        if str(config.get("_target_", "")).startswith("reid_lab."):
            yield key, config
        for name in config:
            if not (OmegaConf.is_interpolation(config, name) or OmegaConf.is_missing(config, name)):
                yield from nodes(config[name], f"{key}.{name}")


@pytest.mark.parametrize(("home", "choice"), [(h, c) for h in CHOICES for c in CHOICES[h]])
def test_defaults_in_code_equal_the_yaml(composed: Compose, home: str, choice: str) -> None:
    cfg = composed("dataset=market1501", "backbone=small", f"{home}={choice}", small=False)
    for key, node in nodes(cfg[home]):
        if ".backbones." not in key:  # an ensemble's networks are its own
            compare(node, f"{home}={choice}: {home}{key}")


def test_defaults_are_compared(composed: Compose) -> None:
    assert compare(composed("backbone=small", small=False).backbone, "backbone")


def compare(node: DictConfig, where: str) -> int:
    """How many of a node's values are those of its target's signature, as all must be.

    Each parameter is listed, so that `--cfg job` shows it and it is changed without a `+`.
    """
    compared = 0
    for name, parameter in inspect.signature(get_object(node["_target_"])).parameters.items():
        if name not in node and parameter.default is not inspect.Parameter.empty:
            assert name in UNLISTED or "checkpoint" in where, f"{where} lacks {name}"
        if name not in node or name in DIFFERENT or OmegaConf.is_interpolation(node, name):
            continue
        if OmegaConf.is_missing(node, name) or parameter.default is inspect.Parameter.empty:
            continue
        value = node[name]
        value = tuple(value) if OmegaConf.is_list(value) else value
        if not OmegaConf.is_dict(value):
            assert value == parameter.default, f"{where}.{name}"
            compared += 1
    return compared


def test_the_recipe_of_people_has_one_home(composed: Compose) -> None:
    raw = OmegaConf.load(conf_dir() / "dataset" / "synthetic.yaml")
    values = asdict(Recipe())
    del values["variation"]  # not listed, so that folders and results from before it stay valid
    assert dict(raw.recipe) == {"_target_": raw.recipe["_target_"], **values}


def test_groups_mirror_the_packages() -> None:
    package = Path(reid_lab.__file__).parent
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    assert all((package / group).is_dir() for group in groups - WITHOUT_PACKAGE)


GROUPS = ("dataset", "backbone", "model", "loss", "trainer", "logger")


@pytest.mark.recipe
@pytest.mark.parametrize(("group", "choice"), [(g, c) for g in GROUPS for c in choices(g)])
def test_every_choice_composes(composed: Compose, group: str, choice: str) -> None:
    """It resolves, and every class takes the arguments that it is given."""
    cfg = composed(f"{group}={choice}", small=False)
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    own = OmegaConf.load(conf_dir() / group / f"{choice}.yaml").get("_target_")
    assert own is None or resolved[group]["_target_"] == own
    for key, node in nodes(OmegaConf.create(resolved)):
        given = {name for name in node if not str(name).startswith("_")}
        takes = inspect.signature(get_object(node["_target_"])).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        assert open_ended or given <= set(takes), f"{key} has {given - set(takes)}"


def test_recipes_with_ten_crops_have_ten(composed: Compose) -> None:
    """DaRe, section 5; PLA, section 4.2."""
    ten = ("dare_market", "dare_cuhk03", "se_resnets_market", "pla_market")
    for name in (*ten, "dare_cuhk03_cpu", "demo"):
        views = composed(*RECIPES[name]).dataset.transforms.test_views
        assert views == (10 if name in ten else 1), name


def test_a_job_of_table_1(composed: Compose) -> None:
    """DaRe, table 1: what a sweep over data sets and networks leaves of the experiment."""
    words = ["dataset=mars", "backbone=densenet201", "dataset.transforms.erase=0"]
    cfg = composed("+experiment=dare_market", "+sweep=dare_table1", *words, small=False)
    assert (
        cfg.dataset.reader._target_.endswith("read_mars")
        and cfg.dataset.transforms.test_views == 10
    )
    assert cfg.backbone._target_.endswith("DenseNet201")
    assert cfg.callbacks.ranking.rerank == "k_reciprocal"


@pytest.mark.parametrize("name", sorted(p.stem for p in (conf_dir() / "sweep").glob("*.yaml")))
def test_printed_commands_say_where_the_data_is(name: str) -> None:
    text = (conf_dir() / "sweep" / f"{name}.yaml").read_text().replace("\\\n#", "")
    commands = [line for line in text.splitlines() if "python -m reid_lab -m" in line]
    assert all("dataset.root=" in line or "synthetic" in line for line in commands)


@pytest.mark.parametrize("group", ["experiment", "sweep"])
def test_headers_have_a_command(group: str) -> None:
    for path in sorted((conf_dir() / group).glob("*.yaml")):
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        header = list(takewhile(lambda line: line.startswith("#"), lines))
        plus = "-m .*" * (group == "sweep")
        command = re.compile(rf"# +python -m reid_lab {plus}.*\+{group}={path.stem}( |$)")
        assert first == "# @package _global_" and max(map(len, header)) <= 120, path
        assert any(map(command.match, header)), path
        studies = re.findall(r"experiments/(\w+)", " ".join(header))
        assert all((ROOT / "experiments" / study / "README.md").is_file() for study in studies)
