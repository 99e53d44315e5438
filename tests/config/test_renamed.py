"""Commands and settings of the release before mean the same, and warn with the new form."""

from __future__ import annotations

import inspect
import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object
from omegaconf import OmegaConf, open_dict

from reid_lab.callbacks import ProgressiveSearch
from reid_lab.checkpoint import stated
from reid_lab.config import roles
from reid_lab.config.check import check_config
from reid_lab.config.choices import conf_dir
from reid_lab.config.overrides import composed as composed_words
from reid_lab.config.overrides import current, explain, first_value
from reid_lab.config.paths import register_resolvers
from reid_lab.config.renamed import EXPERIMENTS, KEYS, REMOVED, SWEEPS, with_new_names
from reid_lab.config.resume import differences
from reid_lab.config.settings import Settings
from reid_lab.dataset import Transforms
from reid_lab.errors import UserError
from reid_lab.frontier.identity import settings
from reid_lab.model import METHODS
from reid_lab.types import steps_of
from tests.conftest import Compose

RENAMED: tuple[Any, ...] = (Transforms, ProgressiveSearch, *METHODS.values())


@pytest.mark.parametrize(
    ("typed", "new"),
    [
        ("+experiment=demo seed=1", "+experiment=demo seed=1"),
        (
            "+experiment=han_large_duke seed=1",
            "+experiment=han_duke model.size=large name=han_large_duke seed=1",
        ),
        ("+experiment=han_small_duke name=mine", "+experiment=han_duke model.size=small name=mine"),
        (
            "-m +experiment=han_small_duke,han_large_duke",
            "-m +experiment=han_duke model.size=small,large",
        ),
        (
            "-m +experiment=han_small_duke,han_large_market",
            "-m +experiment=han_small_duke,han_large_market",
        ),
        (
            "+experiment=dare_densenet_market",
            "+experiment=dare_market backbone=densenet201 name=dare_densenet_market",
        ),
        (
            "+experiment=shufflenet_market_scratch",
            "+experiment=scratch_market backbone=shufflenet name=shufflenet_market_scratch",
        ),
        (
            "-m +experiment=mobilenet_cuhk03_scratch,condensenet_cuhk03_scratch",
            "-m +experiment=scratch_cuhk03 backbone=mobilenet,condensenet",
        ),
        ("dataset.reader.companions=true", "dataset.reader.multi_query=true"),
        ("+dataset.reader.companions=true", "+dataset.reader.multi_query=true"),
        ("callbacks.thresholds=null", "callbacks.exit_thresholds=null"),
        ("callbacks.thresholds.identities=9", "callbacks.exit_thresholds.identities=9"),
        ("~callbacks.thresholds", "~callbacks.exit_thresholds"),
        ("callbacks.thresholds_of_mine.a=1", "callbacks.thresholds_of_mine.a=1"),
        ("+sweep=seeds", "+sweep=seeds"),
        ("+sweep=lomo_fig7", "+experiment=lomo_market +sweep=lomo_fig7"),
        ("+sweep=han_fig6", "+experiment=han_market model.size=large +sweep=han_fig6"),
        ("+sweep=han_fig6 experiment=demo", "+experiment=demo +sweep=han_fig6"),
        ("+experiment=demo +sweep=han_fig6", "+experiment=demo +sweep=han_fig6"),
    ],
)
def test_old_commands(typed: str, new: str, caplog: pytest.LogCaptureFixture) -> None:
    assert with_new_names(typed.split()) == new.split()
    changed = [word for word in new.split() if word not in typed and word[:5] != "name="]
    with caplog.at_level(logging.WARNING):
        assert all(word in caplog.text for word in changed)
    assert bool(caplog.text) == (typed != new)


def test_shares_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert with_new_names(["model.milestones=[0.5]"]) == ["model.milestones=[0.5]"]
    assert "give steps" in caplog.text


def test_folders_of_callbacks_have_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    assert with_new_names(["callbacks.ranking.folder=there", "seed=1"]) == ["seed=1"]
    assert "run_dir" in caplog.text


def test_the_new_names_exist() -> None:
    named = {new for new, _ in EXPERIMENTS.values()} | {names[0] for names in SWEEPS.values()}
    assert all((conf_dir() / "experiment" / f"{name}.yaml").is_file() for name in named)
    assert all((conf_dir() / "sweep" / f"{name}.yaml").is_file() for name in SWEEPS)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["+experiment=demo"], "demo"),
        (["+experiment=jlml_cuhk03", "model=han"], "jlml_cuhk03"),
        (["model=pla", "dataset=grid"], "pla_grid"),
        (["+experiment=demo", "name=mine"], "mine"),
        (["+experiment=demo", "+sweep=seeds"], "demo"),
    ],
)
def test_a_run_is_called_as_its_experiment(words: list[str], name: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", words, return_hydra_config=True)
    assert cfg.name == name
    assert not HydraConfig.initialized()


@pytest.mark.parametrize(
    ("milestones", "epoch", "steps"),
    [
        ([20_000, 40_000], None, [20_000, 40_000]),
        ([100, 200, 250], 404, [40_400, 80_800, 101_000]),
        ([1 / 3, 2 / 3, 5 / 6], None, [40_400, 80_800, 101_000]),
        ([], None, []),
    ],
)
def test_units_of_milestones(milestones: list[float], epoch: int | None, steps: list[int]) -> None:
    assert steps_of(milestones, epoch, 121_200) == steps


def test_a_run_of_before_is_resumed() -> None:
    old = {"model": {"iterations": 1200, "milestones": [0.75], "lr": 1}}
    new = {"model": {"iterations": 1200, "milestones": [900], "epoch": None, "lr": 1}}
    assert not differences(old, new)
    assert differences(old, {"model": new["model"] | {"milestones": [800]}})


def test_renamed_parameters_have_a_new_name_and_not_the_old() -> None:
    for one in RENAMED:
        for old, new in one.renamed.items():
            assert new in inspect.signature(one).parameters, one
            assert old not in inspect.signature(one).parameters, one
    named = {f"reid_lab.{one.__module__.split('.')[1]}.{one.__name__}": one for one in RENAMED}
    assert {name: one.renamed for name, one in named.items() if one.renamed} == roles.RENAMED


@pytest.mark.parametrize(
    ("typed", "new"),
    [
        ("model=pla model.weight=2", "model=pla model.triplet_weight=2"),
        ("-m model=pla model.weight=1,2", "-m model=pla model.triplet_weight=1,2"),
        (
            "+experiment=distill_han model.weight=2 model.scale=true",
            "+experiment=distill_han model.student_weight=2 model.scale_by_t2=true",
        ),
        (
            "model=distilled model@model.student=pla model.student.weight=3",
            "model=distilled model@model.student=pla model.student.triplet_weight=3",
        ),
        ("dataset.transforms.views=10", "dataset.transforms.test_views=10"),
        ("++dataset.transforms.view=whole", "dataset.transforms.test_crop=whole"),
        (
            "model=pla callbacks=progressive callbacks.progressive.weight=[0,1]",
            "model=pla callbacks=progressive callbacks.progressive.triplet_weight=[0,1]",
        ),
        ("model=dare model.weight=2", "model=dare model.weight=2"),  # has never been a key
        ("callbacks.ranking.rerankers.k_reciprocal.weight=1",) * 2,
    ],
)
def test_old_parameters_of_a_command(
    typed: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    register_resolvers()
    assert current(typed.split()) == new.split()
    changed = [word for word in new.split() if word not in typed.split()]
    assert all(f"is now {word}" in caplog.text for word in changed)
    assert bool(caplog.text) == bool(changed)


def of_before(composed: Compose, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of a command as it was written before, and as it is."""
    now: Any = OmegaConf.to_container(composed(*words), resolve=True)

    def older(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        target = str(node.get("_target_", ""))
        names = getattr(get_object(target), "renamed", {}) if "reid_lab" in target else {}
        old = {new: old for old, new in names.items()}
        return {old.get(key, key): older(value) for key, value in node.items()}

    return older(now), now


@pytest.mark.parametrize(
    "words",
    [
        ("model=pla", "model.triplet_weight=0.5", "callbacks=progressive"),
        ("model=distilled", "model.teacher=null", "model.student_weight=0.1"),
        ("dataset.transforms.test_crop=whole", "dataset.transforms.test_views=2"),
    ],
)
def test_runs_with_old_keys_are_the_same_method(composed: Compose, words: tuple[str, ...]) -> None:
    old, now = of_before(composed, *words)
    assert old != now
    assert settings(old) == settings(now)
    _, other = of_before(composed, *words[:1])
    assert settings(old) != settings(other)


def test_runs_with_old_keys_are_resumed(composed: Compose) -> None:
    old, now = of_before(composed, "model=pla", "model.triplet_weight=0.5")
    assert not differences(old, now)
    _, other = of_before(composed, "model=pla")
    assert differences(old, other) == "model.triplet_weight=0.5 (here 1.0)"


def test_old_checkpoints_have_todays_names() -> None:
    kept = stated({"_target_": "reid_lab.model.PLA", "weight": 0.5, "head": "neck"})
    assert (kept["triplet_weight"], kept["head"], kept["pool"]) == (0.5, "neck", "max")
    assert "weight" not in kept


def test_an_old_key_in_a_file_of_the_user_is_refused_with_the_new_name(composed: Compose) -> None:
    cfg = composed("model=distilled", "model.teacher=null")
    with open_dict(cfg):  # as a recipe sets it
        cfg.dataset.transforms.views = 10
        cfg.model.scale = True
    problems = {problem.key: problem.fix for problem in check_config(cfg)}
    assert problems.keys() == {"dataset.transforms.views", "model.scale"}
    assert problems["dataset.transforms.views"].startswith("it is now test_views: rename it")
    assert problems["model.scale"].startswith("it is now scale_by_t2: rename it")


def test_an_old_callback_in_a_file_of_the_user_is_refused_with_the_new_name(
    composed: Compose,
) -> None:
    cfg = composed("+experiment=demo")
    with open_dict(cfg):
        cfg.callbacks.thresholds = {"identities": 50}
        cfg.dataset.reader.companions = True
    problems = {problem.key: problem.fix for problem in check_config(cfg, Settings)}
    assert problems.keys() == {"callbacks.thresholds", "dataset.reader.companions"}
    for old, fix in problems.items():
        assert fix == f"it is now {KEYS[old]}: rename it in the file that has it"


def test_an_old_key_in_a_sweep_of_the_user_is_refused_with_the_new_name() -> None:
    register_resolvers()
    error = ConfigCompositionException("Could not override 'model.weight'.\nKey 'weight' is not")
    assert "it is now model.triplet_weight" in explain(error, ["-m", "model=pla", "seed=1"])


def test_no_page_names_a_removed_choice() -> None:
    root = Path(__file__).parents[2]
    for page in (root / "README.md", *root.glob("docs/**/*.md"), *root.glob("experiments/**/*.md")):
        for group, chosen in re.findall(r"\+(experiment|sweep)=([\w,]+)", page.read_text("utf-8")):
            assert not {*chosen.split(",")} & {*REMOVED[group]}, f"{page}: {chosen}"


@pytest.mark.parametrize("group", REMOVED)
def test_a_removed_choice_is_refused_with_what_it_was(group: str) -> None:
    for choice, words in REMOVED[group].items():
        assert not (conf_dir() / group / f"{choice}.yaml").exists()
        with pytest.raises(UserError) as error:
            composed_words([f"+{group}={choice}"])
        assert f"fix: {words}" in str(error.value)
        assert (f"name={choice}" in str(error.value)) == (group == "experiment")
        axes = [first_value(word) for word in shlex.split(words) if word != "-m"]
        composed_words([*axes, "run_dir=.", "dataset.root=."])
