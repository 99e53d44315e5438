"""Callbacks and parameters declare what they change, and runs are compared by it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict

from reid_lab.config import roles as roles_of
from reid_lab.config.choices import choices, conf_dir
from reid_lab.config.relevance import DECLARING, declared, role_of_callback, role_of_setting
from reid_lab.config.resume import differences
from reid_lab.dataset import ReidDataModule
from reid_lab.frontier.identity import settings
from reid_lab.types import Role
from tests.conftest import Compose

CALLBACKS = {
    str(node["_target_"])
    for choice in choices("callbacks")
    for name, node in OmegaConf.load(conf_dir() / "callbacks" / f"{choice}.yaml").items()
    if name != "defaults"
}


@pytest.mark.parametrize("target", sorted(CALLBACKS))
def test_every_callback_has_a_role(target: str) -> None:
    found = get_object(target)
    assert found.role in get_args(Role)
    assert any("role" in vars(c) for c in inspect.getmro(found) if "reid_lab" in c.__module__)


def targets(node: Any) -> Iterator[str]:
    """The `_target_` of a node and of those below it that can declare roles."""
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from targets(each)
    if isinstance(node, dict) and str(node.get("_target_")).startswith(DECLARING):
        yield node["_target_"]


def test_the_table_has_what_conf_declares() -> None:
    """By which runs are compared without importing callbacks and data."""
    files = (OmegaConf.to_container(OmegaConf.load(path)) for path in conf_dir().rglob("*.yaml"))
    found = {target for content in files for target in targets(content)}
    roles = {target: getattr(get_object(target), "role", None) for target in found}
    assert {target: role for target, role in roles.items() if role} == roles_of.CALLBACKS
    assert {target: declared(target) for target in found} == roles_of.PARAMETERS
    selecting = {t for t in found if getattr(get_object(t), "selects_weights", False) is True}
    assert selecting == roles_of.SELECTING


def test_every_parameter_of_the_data_has_a_role() -> None:
    parameters = set(inspect.signature(ReidDataModule).parameters)
    assert parameters == set(declared("reid_lab.dataset.ReidDataModule"))


def test_what_declares_no_role_may_change_the_weights() -> None:
    assert role_of_callback({"_target_": "mine.Callback"}) == "training"
    assert role_of_callback({"_target_": "reid_lab.callbacks.of_another_version.X"}) == "training"
    assert role_of_callback({}) == "training"
    assert role_of_setting({"_target_": "os.system"}, "workers") == "training"
    assert role_of_setting({"_target_": 3}, "workers") == "training"
    assert role_of_setting({}, "workers", "dataset") == "running"


def flat(cfg: DictConfig) -> dict[str, str]:
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return settings(plain)


def other_callbacks() -> Iterator[str]:
    for key in (
        "deadline.minutes=9",
        "fused_optimizer.enabled=false",
        "cuda_graph.enabled=true",
        "throughput.every=3",
        "cost.batch=3",
        "verification.false_accept_rates=[0.1]",
        "exit_thresholds.identities=9",
        "ranking.memory=2e9",
        "checkpoint.every_n_train_steps=3",
    ):
        yield f"callbacks.{key}"


@pytest.mark.parametrize(
    "override",
    [
        *other_callbacks(),
        "+callbacks.preflight={_target_:reid_lab.callbacks.Preflight}",
        "callbacks.progress=null",
        "callbacks.deadline=null",
        "callbacks.exit_thresholds=null",
        "dataset.workers=3",
        "dataset.cache=memory",
        "dataset.cache_dir=elsewhere",
        "dataset.root=elsewhere",
        "dataset.eval_batch_size=3",
        "dataset.validate=none",
        "trainer.log_every_n_steps=3",
    ],
)
def test_speed_and_measurements_make_no_other_method(composed: Compose, override: str) -> None:
    assert flat(composed(override)) == flat(composed())


def test_shares_of_the_images_make_no_other_method(composed: Compose) -> None:
    shared = composed("dataset.cache=device", "dataset.exchange=true")
    assert flat(shared) == flat(composed())
    plain = (OmegaConf.to_container(cfg.dataset) for cfg in (shared, composed()))
    assert differences(*({"dataset": dataset} for dataset in plain)) == ""


@pytest.mark.parametrize(
    "override",
    [
        "model.lr=1",
        "dataset.p=3",
        "dataset.val_identities=2",
        "+callbacks.checkpoint.monitor=val/mAP",
        "dataset.transforms.test_crop=whole",
        "callbacks.ranking.metric=cosine",
        "callbacks.stream.gallery=reduced",
        "callbacks=finetune",
        "trainer.max_steps=9",
    ],
)
def test_what_changes_an_accuracy_makes_another_method(composed: Compose, override: str) -> None:
    assert flat(composed(override)) != flat(composed())


def test_folders_of_checkpoints_make_no_other_method(composed: Compose) -> None:
    one, other = composed("callbacks=finetune"), composed("callbacks=finetune")
    with open_dict(other):
        other.run_dir = "elsewhere"
    assert other.callbacks.best.dirpath != one.callbacks.best.dirpath
    assert flat(one) == flat(other)
