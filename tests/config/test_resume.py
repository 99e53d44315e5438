"""`ckpt_path=last` goes on with the run that was trained as this one is, or says why it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from reid_lab.config.check import ConfigError
from reid_lab.config.paths import claimed, last_checkpoint, run_dir
from reid_lab.config.resume import different_settings
from reid_lab.config.settings import check
from tests.conftest import Compose


def trained(cfg: DictConfig, folder: str, at: int) -> Path:
    """A run of this config that saved its checkpoint at that second."""
    run = Path("runs", cfg.name, folder)
    last_checkpoint(run).parent.mkdir(parents=True)
    last_checkpoint(run).write_text("weights")
    os.utime(last_checkpoint(run), (at, at))
    (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    return run


def test_last_is_the_newest_run_with_these_settings(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = composed("seed=0"), composed("seed=1")
    trained(a, "older", at=1)
    of_a = trained(a, "a", at=2)
    of_b = trained(b, "b", at=3)
    assert run_dir("test", "last", _root_=a) == str(of_a)
    assert run_dir("test", "last", _root_=b) == str(of_b)
    longer = composed("trainer.max_steps=9", "dataset.workers=1", "callbacks.stream=null")
    assert run_dir("test", "last", _root_=longer) == str(of_a)
    assert not Path(run_dir("test", "last", _root_=composed("seed=2"))).samefile(of_b)


def test_a_run_of_18_identities_is_one_of_auto(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained(composed("dataset.p=18"), "older", at=1)
    assert not different_settings(composed("dataset.p=auto"), run)
    assert different_settings(composed("dataset.p=17"), run) == "dataset.p=18 (here 17)"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=1", "seed=0 (here 1)"),
        ("model.lr=1", "model.lr=0.0003 (here 1)"),
        ("dataset.p=3", "dataset.p=2 (here 3)"),
        ("dataset.transforms.width=16", "dataset.transforms.width=32 (here 16)"),
        ("loss.margin=2", "loss.margin="),
        ("dataset.root=elsewhere", ""),
        ("dataset.transforms.test_views=10", ""),
        ("trainer.max_steps=5", ""),
        ("callbacks.ranking.pca=4", ""),
    ],
)
def test_what_made_the_weights_is_compared(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained(composed(), "one", at=1)
    found = different_settings(composed(override), run)
    assert found.startswith(told) and bool(found) == bool(told)
    assert found.count("here") <= 1  # not again wherever it is referred to


def test_a_run_from_before_a_setting_was_there(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had the default of its class: DaRe's one strip, PLA's bare head, a plain mean."""
    monkeypatch.chdir(tmp_path)
    old = composed("model=dare", "loss=triplet")
    with open_dict(old):
        for key in ("strips", "cross_entropy", "smoothing", "identities", "shared_space"):
            del old.model[key]
        del old.loss["positive_only"]
    run = trained(old, "older", at=1)
    assert not different_settings(composed("model=dare", "loss=triplet"), run)
    assert (
        different_settings(composed("model=dare", "model.strips=4"), run)
        == "model.strips=1 (here 4)"
    )
    found = different_settings(composed("model=dare", "loss.positive_only=true"), run)
    assert found == "loss.positive_only=false (here true)"
    old = composed("model=pla")
    with open_dict(old):
        del old.model["head"]
    run = trained(old, "pla", at=2)
    assert different_settings(composed("model=pla"), run).startswith('model.head="bare" (here ')
    assert not different_settings(composed("model=pla", "model.head=bare"), run)


@pytest.mark.parametrize("task", ["fit", "test"])
def test_other_settings_are_told_before_anything_is_written(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained(composed("seed=1"), "one", at=1)
    with pytest.raises(ConfigError) as error:
        check(composed("ckpt_path=last", f"task={task}"))
    (problem,) = error.value.problems
    assert (problem.key, problem.given) == ("ckpt_path", "last")
    assert f"{run}, has seed=1 (here 0)" in problem.allowed
    assert f"ckpt_path={last_checkpoint(run)}" in problem.fix


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {claimed(str(tmp_path / "runs")) for _ in range(5)}
    assert len(folders) == 5 and all(Path(folder).is_dir() for folder in folders)
