"""The config check must find every error of a config, and none in a good one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import pytest
from annotated_types import Ge, Gt, Interval, Len
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from reid_lab.config.check import ConfigError, check_config
from reid_lab.output.words import ABSENT, Problem

HERE = __name__


class Backbone:
    def __init__(self, widths: Sequence[int] = (1, 2), pretrained: Path | None = None) -> None: ...


class Loss:
    def __init__(self, margin: Annotated[float, Interval(gt=0, le=1)] = 0.3) -> None: ...


class Model:
    def __init__(
        self,
        backbone: Backbone,
        loss: Loss | None = None,
        lr: Annotated[float, Gt(0)] = 0.1,
        epochs: Annotated[int, Ge(1)] = 1,
        mode: Literal["train", "test"] | None = None,
        size: tuple[int, int] = (256, 128),
        parts: Annotated[list[Annotated[int, Ge(0)]], Len(1, 3)] = [0],  # noqa: B006
        scales: dict[str, float] | None = None,
        losses: Sequence[Loss] = (),
        optimizer: Callable[..., Any] | None = None,
        odd_default: int = None,  # type: ignore[assignment]
        elsewhere: NotImportedHere = 0,  # type: ignore[name-defined]  # noqa: F821
    ) -> None: ...


class Anything:
    def __init__(self, first: int, *rest: Any, **options: Any) -> None: ...


class Lazy:
    def __init__(self, loss: Any = None, backbone: Backbone | None = None) -> None: ...


class Scorer(Protocol):
    def __call__(self, x: int) -> float: ...


class Loose:
    def __init__(
        self, scorer: Scorer | None = None, any_size: Annotated[Any, Gt(0)] = 1, *, plain: Any = 2
    ) -> None: ...


@dataclass
class Settings:
    seed: Annotated[int, Ge(0)]
    model: Any
    stage: Literal["fit", "test"] = "fit"
    output: str | None = None
    dataset: Any = None
    backbone: Any = None
    logger: object = None


def check(config: dict[str, Any], settings: type | None = None) -> dict[str, Problem]:
    problems = check_config(OmegaConf.create(config), settings)
    assert len({p.key for p in problems}) == len(problems)
    return {p.key: p for p in problems}


def model(**values: Any) -> dict[str, Any]:
    backbone = {"_target_": f"{HERE}.Backbone"}
    return {"model": {"_target_": f"{HERE}.Model", "backbone": backbone, **values}}


GOOD = {
    "lr": 1,
    "epochs": 3,
    "mode": "test",
    "size": [128, 64],
    "parts": [0, 1],
    "scales": {"a": 1, "b": 0.5},
    "losses": [{"_target_": f"{HERE}.Loss", "margin": 1}],
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1},
    "loss": None,
    "odd_default": None,
    "elsewhere": "x",
    "backbone": {"_target_": f"{HERE}.Backbone", "widths": [8], "pretrained": "/a"},
}


def test_good_config_has_no_problems() -> None:
    assert check(model(**GOOD)) == {}


@pytest.mark.parametrize(
    ("key", "value", "at", "allowed", "fix"),
    [
        ("lr", 0, "lr", "a number > 0", "the default is model.lr=0.1"),
        ("lr", "0.1", "lr", "a number > 0", "without quotes: model.lr=0.1"),
        ("lr", True, "lr", "a number > 0", "the default is"),
        ("lr", None, "lr", "a number > 0", "the default is"),
        ("epochs", True, "epochs", "an integer >= 1", "the default is model.epochs=1"),
        ("epochs", 2.0, "epochs", "an integer >= 1", "the default"),
        ("mode", "tets", "mode", "one of: train, test or null", "did you mean model.mode=test?"),
        ("mode", 7, "mode", "one of: train, test or null", "model.mode=train or model.mode=test"),
        ("size", [1, 2, 3], "size", "a list of 2: an integer, an integer", "change it: model."),
        ("size", [1, "x"], "size.1", "an integer", "change it: model."),
        ("parts", [0, -1], "parts.1", "an integer >= 0", "change it"),
        (
            "parts",
            [],
            "parts",
            "a list of integers >= 0 of length >= 1 and of length <= 3",
            "change",
        ),
        ("parts", 3, "parts", "a list of integers >= 0 of length", "change it: model."),
        ("scales", {"a": "x"}, "scales.a", "a number", "change it: model."),
        ("scales", [1], "scales", "a mapping of strings to numbers or null", "change it"),
        ("optimizer", "sgd", "optimizer", "a callable (a `_target_` node) or null", "change it"),
        ("loss", "triplet", "loss", f"a `_target_` node of {HERE}.Loss or null", "change it"),
        ("_partial_", "yes", "_partial_", "true or false", "model._partial_=true"),
    ],
)
def test_wrong_value(key: str, value: Any, at: str, allowed: str, fix: str) -> None:
    problems = check(model(**{key: value}))
    assert list(problems) == [f"model.{at}"]
    problem = problems[f"model.{at}"]
    assert problem.allowed.startswith(allowed)
    assert fix in problem.fix
    index = at.removeprefix(key).lstrip(".")
    given = value if not index else value[int(index)] if index.isdigit() else value[index]
    assert problem.given == given


def test_what_cannot_be_known_is_accepted() -> None:
    loose = f"{HERE}.Loose"
    node = {"_target_": f"{HERE}.Loss"}
    assert check({"x": {"_target_": loose, "scorer": node, "any_size": "big", "plain": [1]}}) == {}
    assert check({"x": {"_target_": loose, "scorer": None}}) == {}
    assert check({"x": {"_target_": "builtins.dict", "a": 1}}) == {}


def test_a_config_composed_by_hydra(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/triplet.yaml").write_text(f"_target_: {HERE}.Loss\nmargin: 0.3\n")
    text = (
        f"defaults: [_self_, loss: triplet]\nmodel: {{_target_: {HERE}.Lazy, loss: '${{loss}}'}}\n"
    )
    (tmp_path / "config.yaml").write_text(text)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert check_config(compose("config")) == []
        (problem,) = check_config(compose("config", ["loss.margin=7"]))
        assert problem.key == "loss.margin"
        problems = check_config(compose("config", ["+loss.margn=1", "model.loss=${los}"]))
        assert {p.key for p in problems} == {"loss.margn", "model.loss"}


def test_keys() -> None:
    problems = check(model(epoch=1, zzzzz={"a": 1}, _partal_=True))
    assert problems["model.epoch"].fix == "did you mean epochs?"
    assert problems["model.epoch"].allowed.startswith("one of the keys: backbone, loss, lr")
    assert problems["model.zzzzz"].fix == "remove it: '~model.zzzzz'"
    assert problems["model.zzzzz"].given == {"a": 1}
    assert problems["model._partal_"].fix == "did you mean _partial_?"
    assert len(problems) == 3


def test_missing_argument() -> None:
    problems = check({"m": {"_target_": f"{HERE}.Model"}, "a": {"_target_": f"{HERE}.Anything"}})
    needed = f"a `_target_` node of {HERE}.Backbone"
    assert problems["m.backbone"] == Problem(
        "m.backbone", ABSENT, needed, "add it: '+m.backbone=${backbone}'"
    )
    assert problems["a.first"].allowed == "an integer"
    assert check({"m": {"_target_": f"{HERE}.Model", "_partial_": True}}) == {}


def test_positional_and_open_ended() -> None:
    anything = f"{HERE}.Anything"
    assert check({"a": {"_target_": anything, "_args_": [1, "x", None], "more": [1]}}) == {}
    assert list(check({"a": {"_target_": anything, "_args_": ["x"]}})) == ["a._args_.0"]
    problems = check({"a": {"_target_": f"{HERE}.Loss", "_args_": [0.1, 2]}})
    assert problems["a._args_"].allowed == "at most 1 arguments"
    problems = check({"a": {"_target_": f"{HERE}.Loss", "_args_": [0.1], "margin": 0.2}})
    assert list(problems) == ["a.margin"]


@pytest.mark.parametrize(
    ("target", "fix"),
    [
        (f"{HERE}.Bakbone", f"did you mean {HERE}.Backbone?"),
        ("pytorch_lightning.calbacks.Timer", "did you mean pytorch_lightning.callbacks?"),
        ("pytorch_lightning.callbacks.Tmer", "did you mean pytorch_lightning.callbacks.Timer?"),
        ("reid_lab.config.chek.Problem", "did you mean reid_lab.config.check?"),
        ("reid_lab.model.dare", "this is a module: did you mean reid_lab.model.DaRe?"),
        ("reid_lab.model.DARE", "did you mean reid_lab.model.DaRe?"),
        ("no_such_package.Thing", "install the package no_such_package, or correct its name"),
        (f"{HERE}.HERE", "this is a str: name another"),
        (f"{HERE}.Qqqqqqqq", f"{HERE} has no Qqqqqqqq: name one of its classes or functions"),
    ],
)
def test_target(target: str, fix: str) -> None:
    problems = check({"logger": [{"x": {"_target_": target, "y": 1}}]})
    assert list(problems) == ["logger.0.x._target_"]
    assert problems["logger.0.x._target_"].given == target
    assert problems["logger.0.x._target_"].fix == fix


def test_target_whose_import_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_missing_dependency\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    problems = check({"x": {"_target_": "needs_more.Thing"}})
    assert problems["x._target_"].fix == "its import fails: No module named 'a_missing_dependency'"


def test_class_that_does_not_fit() -> None:
    loss = {"_target_": f"{HERE}.Loss"}
    problems = check(model(backbone=loss, losses=[loss, {"_target_": f"{HERE}.Backbone"}]))
    assert set(problems) == {"model.backbone._target_", "model.losses.1._target_"}
    assert problems["model.backbone._target_"].given == f"{HERE}.Loss"
    assert problems["model.losses.1._target_"].allowed == f"a `_target_` node of {HERE}.Loss"
    assert check(model(backbone={**loss, "_partial_": True})) == {}


def test_nested_and_deferred() -> None:
    loss = {"_target_": f"{HERE}.Loss", "margin": 3}
    problems = check({"a": [[{"_target_": f"{HERE}.Los"}]], "b": [{"c": [loss]}]})
    assert set(problems) == {"a.0.0._target_", "b.0.c.0.margin"}
    problems = check(model(losses=[{"_target_": f"{HERE}.Anything", "first": loss}]))
    assert problems["model.losses.0.first.margin"].allowed == "a number > 0 and <= 1"

    lazy = {"_target_": f"{HERE}.Lazy", "_recursive_": False}
    later = {"_target_": f"{HERE}.Anything", "more": {"_target_": f"{HERE}.Model"}}
    assert check({"lazy": {**lazy, "loss": later, "backbone": later}}) == {}
    assert list(check({"lazy": {**lazy, "loss": loss}})) == ["lazy.loss.margin"]


def test_interpolations_are_reported_once_at_home() -> None:
    config = {
        "lr": -1,
        "dataset": {"root": "???", "size": [1, "x"]},
        "backbone": {"_target_": f"{HERE}.Backbone", "widht": 1, "pretrained": "${dataset.root}"},
        "other": {"_target_": f"{HERE}.Loss"},
        **model(backbone="${backbone}", lr="${lr}", size="${dataset.size}", mode="${no.such}"),
        "second": {"_target_": f"{HERE}.Model", "backbone": "${other}", "lr": "${model.lr}"},
    }
    problems = check(config)
    assert set(problems) == {
        "lr",
        "dataset.root",
        "dataset.size.1",
        "backbone.widht",
        "model.mode",
        "other._target_",
    }
    assert problems["lr"].allowed == "a number > 0 (for model.lr)"
    assert problems["dataset.root"].given == "???"
    assert problems["dataset.root"].fix == "give it: dataset.root=..."
    assert problems["model.mode"].given == "${no.such}"
    assert "no.such" in problems["model.mode"].allowed
    assert problems["other._target_"].allowed.endswith("Backbone (for second.backbone)")


def test_a_selected_value_is_reported_once_at_home() -> None:
    first = model(lr=-1, epochs=0)["model"]
    config = {
        "first": first,
        "second": {**first, "lr": "${oc.select:first.lr}"},
        "third": {**first, "lr": "${oc.select:no.such,${oc.select:first.lr,1}}", "epochs": 1},
        "fourth": {**first, "lr": "${oc.select: first.lr, 1}", "epochs": "${second.epochs}"},
        "few": -2,
        "fifth": {**first, "lr": "${oc.select:no.such,-3}", "epochs": "${oc.select:few,1}"},
    }
    config["second"]["epochs"] = "${oc.select:none.at.all,${first.epochs}}"
    problems = check(config)
    assert set(problems) == {"first.lr", "first.epochs", "few", "fifth.lr"}
    assert problems["first.lr"].allowed == "a number > 0"
    assert problems["few"].allowed == "an integer >= 1 (for fifth.epochs)"
    assert problems["few"].fix == "change it: few=..."  # not the default of fifth.epochs


def test_settings() -> None:
    good = {"seed": 0, "dataset": {"x": [1]}, "hydra": {"y": "???"}, **model()}
    assert check(good, Settings) == {}
    bad = {"stage": "tset", "output": 3, "datset": {"x": 1}, "loggers": None, **model(lr=0)}
    problems = check(bad, Settings)
    assert problems["stage"].fix == "did you mean stage=test?"
    assert problems["stage"].allowed == "one of: fit, test"
    assert problems["output"].allowed == "a string or null"
    assert problems["datset"].fix == "did you mean dataset?"
    assert problems["loggers"].fix == "did you mean logger?"
    assert problems["seed"] == Problem("seed", ABSENT, "an integer >= 0", "add it: +seed=...")
    assert problems["model.lr"].allowed == "a number > 0"
    assert len(problems) == 6


def test_all_problems_make_one_message() -> None:
    problems = check(model(lr=-1, epoch=2, mode="x", size=[1]))
    text = str(ConfigError(problems.values()))
    assert text.startswith("The config has 4 problems:\n\n")
    for number, problem in enumerate(problems.values(), 1):
        assert f"{number}. {problem.key}\n" in text
        assert f"fix      {problem.fix}" in text
    assert (
        "  1. model.lr\n       given    -1\n       allowed  a number > 0\n       fix      " in text
    )


LIGHTNING = "pytorch_lightning"
TRAINERS: list[dict[str, Any]] = [
    {},
    {"precision": "bf16-mixed", "devices": "auto", "strategy": "ddp", "limit_val_batches": 0.5},
    {"precision": 32, "devices": 2, "strategy": "auto", "limit_train_batches": 10},
    {"precision": "16", "devices": [0, 1], "accelerator": "gpu", "max_time": "00:12:00:00"},
    {"precision": None, "devices": "0,1", "max_time": {"hours": 1}, "max_epochs": None},
    {"max_epochs": 3, "deterministic": "warn", "benchmark": True, "fast_dev_run": True},
    {"fast_dev_run": 2, "deterministic": False, "overfit_batches": 1, "max_steps": -1},
    {"gradient_clip_val": 1, "gradient_clip_algorithm": "norm", "val_check_interval": 0.25},
    {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0},
    {
        "default_root_dir": "/x",
        "profiler": "simple",
        "inference_mode": True,
        "log_every_n_steps": 1,
    },
    {"strategy": {"_target_": f"{LIGHTNING}.strategies.DDPStrategy", "static_graph": True}},
    {"profiler": {"_target_": f"{LIGHTNING}.profilers.SimpleProfiler", "dirpath": "/x"}},
    {"plugins": [{"_target_": f"{LIGHTNING}.plugins.environments.LightningEnvironment"}]},
    {"callbacks": [{"_target_": f"{LIGHTNING}.callbacks.Timer", "duration": "00:01:00:00"}]},
    {"logger": [{"_target_": f"{LIGHTNING}.loggers.CSVLogger", "save_dir": "x", "version": 3}]},
]
OTHERS: dict[str, list[dict[str, Any]]] = {
    "callbacks.ModelCheckpoint": [
        {"dirpath": "a", "filename": "{epoch}", "monitor": "val/mAP", "mode": "max"},
        {"save_last": True, "save_top_k": 3, "every_n_epochs": 1},
        {"save_last": "link", "auto_insert_metric_name": False},
        {"train_time_interval": {"_target_": "datetime.timedelta", "minutes": 5}},
    ],
    "callbacks.EarlyStopping": [{"monitor": "x", "min_delta": 0, "patience": 3, "mode": "max"}],
    "callbacks.LearningRateMonitor": [{"logging_interval": "step"}, {"logging_interval": None}],
    "callbacks.RichProgressBar": [{"refresh_rate": 5, "leave": True}],
    "loggers.WandbLogger": [
        {"project": "p", "offline": True, "log_model": "all", "tags": ["a"], "group": None},
        {"name": None, "save_dir": "x", "log_model": False, "mode": "disabled"},
    ],
    "loggers.TensorBoardLogger": [{"save_dir": "x", "name": None, "version": "v", "flush_secs": 3}],
}


@pytest.mark.parametrize("options", TRAINERS)
def test_good_trainer(options: dict[str, Any]) -> None:
    assert check({"trainer": {"_target_": "pytorch_lightning.Trainer", **options}}) == {}


@pytest.mark.parametrize(("target", "options"), [(t, o) for t, os in OTHERS.items() for o in os])
def test_good_lightning_node(target: str, options: dict[str, Any]) -> None:
    assert check({"logger": {"x": {"_target_": f"{LIGHTNING}.{target}", **options}}}) == {}


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("pytorch_lightning.callbacks.ModelCheckpoint", {"filename": "../../x"}),
        ("pytorch_lightning.loggers.CSVLogger", {"save_dir": "x", "name": "../../x"}),
        ("pytorch_lightning.loggers.CSVLogger", {"save_dir": "x", "version": "/x"}),
        ("reid_lab.callbacks.loggers.CsvLogger", {"save_dir": "x", "name": "a\\..\\..\\x"}),
        ("pytorch_lightning.loggers.TensorBoardLogger", {"save_dir": "x", "name": ".."}),
    ],
)
def test_files_stay_in_their_folder(target: str, options: dict[str, str]) -> None:
    (problem,) = check({"logger": {"x": {"_target_": target, **options}}}).values()
    assert problem.given in options.values()
    assert "a path below the folder, without .." in problem.allowed


def test_bad_lightning_config() -> None:
    loggers = f"{LIGHTNING}.loggers"
    config = {
        "trainer": {
            "_target_": f"{LIGHTNING}.Trainer",
            "precision": "bf16-mixd",
            "max_epoch": 3,
            "devices": 1.5,
            "benchmark": "yes",
            "plugins": [{"_target_": f"{loggers}.CSVLogger", "save_dir": "x"}],
        },
        "callbacks": {
            "none": None,
            "best": {"_target_": f"{LIGHTNING}.callbacks.ModelCheckpoint", "save_top_k": "3"},
            "stop": {"_target_": f"{LIGHTNING}.callbacks.EarlyStopping"},
        },
        "logger": {"w": {"_target_": f"{loggers}.WandbLogger", "log_model": "al", "any_key": 1}},
    }
    problems = check(config)
    fixes = {key: problem.fix for key, problem in problems.items()}
    assert fixes == {
        "trainer.precision": "did you mean trainer.precision=bf16-mixed?",
        "trainer.max_epoch": "did you mean max_epochs?",
        "trainer.devices": "change it; the default is trainer.devices=auto",
        "trainer.benchmark": "without quotes: trainer.benchmark=true",
        "trainer.plugins.0._target_": fixes["trainer.plugins.0._target_"],
        "callbacks.best.save_top_k": "without quotes: callbacks.best.save_top_k=3",
        "callbacks.stop.monitor": "add it: +callbacks.stop.monitor=...",
        "logger.w.log_model": "did you mean logger.w.log_model=all?",
    }
    assert "32-true" in problems["trainer.precision"].allowed
    assert problems["trainer.devices"].allowed.startswith("an integer >= -1 and <= 65536 or a list")
    assert "Precision" in problems["trainer.plugins.0._target_"].allowed
