"""Commands and settings of the release before mean the same, and warn with the new form."""

from __future__ import annotations

import logging

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from reid_lab.config.choices import conf_dir
from reid_lab.config.paths import register_resolvers
from reid_lab.config.renamed import EXPERIMENTS, SWEEPS, with_new_names
from reid_lab.config.resume import differences
from reid_lab.types import steps_of


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
        (["+experiment=jlml_grid", "model=han"], "jlml_grid"),
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
