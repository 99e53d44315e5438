"""Senseless settings: each is refused in one message before anything is built, none crashes.

`REID_LAB_TORTURE=1` tries every key with every value.
"""

from __future__ import annotations

import copy
import inspect
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CPUAccelerator

import reid_lab
from reid_lab.config import annotations as ann
from reid_lab.config import dry_run
from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.config.check import ConfigError, check_config
from reid_lab.config.choices import choices, conf_dir, default_choices
from reid_lab.config.settings import Settings, check, check_folders
from reid_lab.dataset.synthetic import Recipe
from reid_lab.errors import UserError
from reid_lab.run.run import run
from tests.conftest import TINY, Compose

TORTURE = os.environ.get("REID_LAB_TORTURE") == "1"
SHORT = (*TINY, "model.iterations=2")
HUGE = (math.nan, math.inf, -math.inf, 1e300, 10**30, -(10**30))
SENSELESS = (None, "x", "", -1, 0, [], {}, True, *HUGE)


def leaves(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        name = f"{prefix}{key}"
        if key == "_target_" or OmegaConf.is_interpolation(node, key):
            continue
        yield name
        if isinstance(node[key], DictConfig):
            yield from leaves(node[key], f"{name}.")


def put(cfg: DictConfig, key: str, value: Any) -> DictConfig:
    cfg = copy.deepcopy(cfg)
    OmegaConf.set_struct(cfg, False)
    parent, _, last = key.rpartition(".")
    (OmegaConf.select(cfg, parent) if parent else cfg)[last] = value
    return cfg


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("model", choices("model"))
def test_no_number_may_be_nan_infinite_or_huge(composed: Compose, model: str) -> None:
    more = ["model.teacher=null"] if model == "distilled" else []
    cfg = composed("dataset=synthetic", f"model={model}", "callbacks=progressive", *more)
    keys = [key for key in leaves(cfg) if is_number(OmegaConf.select(cfg, key))]
    for value in HUGE:
        wrong = copy.deepcopy(cfg)
        for key in keys:
            OmegaConf.update(wrong, key, value)
        reported = {problem.key for problem in check_config(wrong, Settings)}
        assert not {*keys} - reported, value


def constructors() -> list[str]:
    """All that a `_target_` in conf/ names."""
    found: set[str] = set()
    for path in conf_dir().rglob("*.yaml"):
        words = path.read_text(encoding="utf-8").split()
        found |= {
            after for word, after in zip(words, words[1:], strict=False) if word == "_target_:"
        }
    return sorted(found)


@pytest.mark.parametrize("target", constructors())
def test_every_number_of_a_constructor_has_bounds(target: str) -> None:
    """By what is accepted, so that a new parameter is found without this test being edited."""
    made = get_object(target)
    hints = ann.hints(made)
    for name in inspect.signature(made).parameters:
        hint = hints.get(name, Any)
        for many in (lambda x: x, lambda x: [x], lambda x: [x, x], lambda x: [x] * 3):
            if ann.accepts(hint, many(object())):
                continue  # anything at all
            assert not ann.accepts(hint, many(math.nan)), name
            assert not ann.accepts(hint, many(math.inf)), name
            assert not ann.accepts(hint, many(-(10**12))), name
            assert not ann.accepts(hint, many(-1e12)), name
            assert not ann.accepts(hint, many(10**30)) or name == "max_time", name


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:verification:UserWarning")
@pytest.mark.parametrize("group", sorted(default_choices()))
def test_a_group_that_is_null_works_or_is_refused(
    composed: Compose, group: str, tmp_path: Path
) -> None:
    cfg = put(composed(*SHORT, "dataset=folder"), group, None)
    if group in ("callbacks", "logger"):
        check(cfg)
        run(cfg)
        assert (tmp_path / "run" / "config.yaml").is_file()
        return
    with pytest.raises(ConfigError) as error:
        check(cfg)
    (problem,) = [p for p in error.value.problems if p.key == group]
    assert f"{group}={default_choices()[group]}" in problem.fix


@pytest.mark.system
@pytest.mark.parametrize("name", OmegaConf.load(conf_dir() / "callbacks/default.yaml").defaults)
def test_any_callback_may_be_left_out(composed: Compose, name: str) -> None:
    cfg = composed(*SHORT, "dataset=folder", f"callbacks.{name}=null")
    if name == "ranking":
        with pytest.raises(ConfigError, match="callbacks.anytime=null"):
            check(cfg)
    else:
        check(cfg)
        build_trainer(cfg)


def test_a_gpu_that_is_not_there(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch finds no such device") as refused:
        check(composed(*SHORT, "dataset=folder", "trainer.accelerator=gpu"))
    assert "trainer.accelerator" in str(refused.value) and "trainer=cpu" in str(refused.value)


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:verification:UserWarning")
def test_a_run_without_checkpoint_callback_keeps_none(composed: Compose, tmp_path: Path) -> None:
    run(composed(*SHORT, "dataset=folder", "callbacks=default", "callbacks.checkpoint=null"))
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("override", "key", "says"),
    [
        ("dataset.transforms.height=1", "dataset.transforms.height", "at least 3 pixels for DaRe"),
        ("dataset.transforms=null", "dataset.transforms", "Transforms"),
        ("model.hidden=60000 model.dim=60000", "model", "of memory"),
        ("trainer.devices=0", "trainer.devices", "devices=0"),
        ("trainer.devices=9999", "trainer.devices", "processes"),
        ("trainer.accelerator=foo", "trainer.accelerator", "trainer.accelerator=auto"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval", ">= 1"),
        ("trainer.max_steps=0", "trainer.max_steps", ">= 1"),
        ("trainer.val_check_interval=1.0", "trainer.val_check_interval", "an integer or a time"),
        (
            "trainer.val_check_interval=0.5",
            "trainer.val_check_interval",
            "trainer.val_check_interval=5000, or trainer.check_val_every_n_epoch=1, too",
        ),
        ("+trainer.max_time=x", "trainer.max_time", "leave out trainer.max_time"),
        ("+trainer.gradient_clip_algorithm=x", "trainer.gradient_clip_algorithm", "norm"),
        ("+trainer.gradient_clip_val=-1", "trainer.gradient_clip_val", ">= 0"),
        ("callbacks.ranking.whiten=true", "callbacks.ranking", "pca"),
        ("callbacks.ranking.pca=20", "callbacks.ranking", "8 or fewer"),
        ("callbacks.ranking.rerank=foo", "callbacks.ranking", "k_reciprocal"),
        ("callbacks.stream.exits=[foo]", "callbacks.stream", "stage1"),
        ("callbacks.stream.budgets=[1e12]", "callbacks.stream", "the exits cost"),
        ("callbacks.stream.policies=[margin,margin]", "callbacks.stream.policies", "duplicates"),
        ("callbacks.ranking.memory=1", "callbacks.ranking.memory", ">= 1000000"),
        (
            "callbacks.ranking.references.hsv_histogram.bins=[256,256,256]",
            "callbacks.ranking.references.hsv_histogram",
            "65536",
        ),
        ("threads=100000", "threads", "<= "),
        ("dataset.workers=100000", "dataset.workers", "<= "),
        ("dataset.p=100000", "dataset.p", "<= 65536"),
        ("seed=4294967296", "seed", "<= 4294967295"),
        ("ckpt_path=''", "ckpt_path", "length >= 1"),
        ("run_dir=/dev/null/x", "run_dir", "to write into"),
        ("run_dir=/dev/null", "run_dir", "to write into"),
        ("dataset.cache=disk dataset.cache_dir=/dev/null", "dataset.cache_dir", "to write into"),
        ("logger.csv.save_dir=/dev/null/x", "logger.csv.save_dir", "to write into"),
        ("compare=[nowhere]", "compare", "finished"),
        ("trainer.precision=64-true", "trainer.precision", "32-true"),
        ("trainer.precision=bf16-true", "trainer.precision", "bf16-mixed"),
        ("dataset.cache=disk dataset.cache_dir=null", "dataset", "needs a folder"),
        ("+model._partial_=true", "model._partial_", "built at once"),
        ("+dataset._partial_=true", "dataset._partial_", "built at once"),
        ("+trainer._partial_=true", "trainer._partial_", "built at once"),
    ],
)
def test_refused_before_anything_is_built(
    composed: Compose, override: str, key: str, says: str
) -> None:
    cfg = composed(*SHORT, "dataset=folder", *override.split())
    with pytest.raises(ConfigError) as error:
        check(cfg)
    assert key in [problem.key for problem in error.value.problems], error.value
    assert says in str(error.value)


@pytest.mark.parametrize(("cache", "spare"), [("device", 0), ("device", -1), ("memory", -1)])
def test_images_that_the_device_holds_are_counted(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, cache: str, spare: int
) -> None:
    cfg = composed(*SHORT, "dataset=folder", f"dataset.cache={cache}")
    data = build_data(cfg)
    _, model = dry_run.try_model(cfg, data)
    needs = dry_run.batches_need(cfg, data, model, 0)
    beside = math.ceil(max(need for _, need in needs.values()))
    images = len(data.train_split) + len(data.eval_split("test"))
    held = images * 3 * 72 * 36
    monkeypatch.setattr(dry_run, "memory_of", lambda _: held + beside + spare)
    if spare == 0 or cache == "memory":
        check(cfg)
        return
    with pytest.raises(ConfigError) as error:
        check(cfg)
    (problem,) = error.value.problems
    assert problem.key == "dataset.cache" and f"{held:,} bytes" in str(problem.given)
    assert (
        f"{held + beside + spare:,} bytes" in problem.allowed and f"{beside:,}" in problem.allowed
    )
    assert "dataset.cache=memory or dataset.cache=disk" in problem.fix
    cfg.dataset.transforms.height = 4096  # a network that does not fit is no reason to be silent
    monkeypatch.setattr(dry_run, "memory_of", lambda _: 1_000_000)
    with pytest.raises(ConfigError) as error:
        check(cfg)
    keys = {problem.key for problem in error.value.problems}
    assert keys == {"dataset.eval_batch_size", "model", "dataset.cache"}


@pytest.mark.parametrize("devices", ["2", "'2'", "auto"])
def test_devices_share_a_batch(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    """In every form in which Lightning takes their number."""
    monkeypatch.setattr(CPUAccelerator, "auto_device_count", staticmethod(lambda: 2))
    cpu = ("trainer.accelerator=cpu", "dataset.eval_batch_size=1")
    one = composed(*SHORT, "dataset=folder", *cpu)
    several = composed(
        *SHORT, "dataset=folder", *cpu, f"trainer.devices={devices}", "+trainer.strategy=ddp"
    )
    data = build_data(one)
    _, model = dry_run.try_model(one, data)
    alone, shared = (dry_run.batches_need(one, data, model, 0, n)["model"][1] for n in (1, 2))
    assert shared < alone
    monkeypatch.setattr(dry_run, "memory_of", lambda _: math.ceil(shared))
    trainer = dry_run.try_trainer(several)[1]
    assert trainer is not None and trainer.num_devices == 2
    assert not dry_run.try_memory(several, data, model, trainer)
    trainer = dry_run.try_trainer(one)[1]
    assert trainer is not None
    assert [p.key for p in dry_run.try_memory(one, data, model, trainer)] == ["model"]


@pytest.mark.skipif(os.name == "nt", reason="no Unix sockets")
def test_workers_need_a_temporary_folder_of_a_short_path(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would wait for ever: multiprocessing cannot open its socket there."""
    monkeypatch.setattr("tempfile.tempdir", "/" + "x" * 75)
    check(composed(*SHORT, "dataset=folder", "dataset.workers=0"))
    with pytest.raises(ConfigError) as error:
        check(composed(*SHORT, "dataset=folder", "dataset.workers=2"))
    (problem,) = error.value.problems
    assert problem.key == "dataset.workers" and "TMPDIR=/tmp" in problem.fix
    monkeypatch.setattr("tempfile.tempdir", "/" + "x" * 70)
    check(composed(*SHORT, "dataset=folder", "dataset.workers=2"))


@pytest.mark.parametrize(
    "words",
    [
        "run_dir={}",
        "logger.csv.save_dir={}",
        "dataset.cache=disk dataset.cache_dir={}",
    ],
)
@pytest.mark.parametrize("inside", ["", "/deep/er"])
def test_a_run_writes_into_no_gallery(
    composed: Compose, tmp_path: Path, words: str, inside: str
) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "gallery.json").touch()
    words = words.format(f"{tmp_path}/g/new{inside}")
    told = f"inside of the gallery {tmp_path}/g, and would be removed"
    with pytest.raises(ConfigError, match=told) as error:
        check(composed(*SHORT, "dataset=folder", *words.split()))
    (problem,) = error.value.problems
    assert words.endswith(f"{problem.key}={problem.given}")
    assert problem.allowed == "a folder outside of galleries and exports"
    assert [*(tmp_path / "g").iterdir()] == [tmp_path / "g" / "gallery.json"]


def test_no_people_are_rendered_into_a_gallery(tmp_path: Path) -> None:
    (tmp_path / "gallery.json").touch()
    groups = {"run_dir": str(tmp_path / "../run"), "callbacks": {}, "logger": {}}
    cfg = OmegaConf.create({**groups, "task": "test", "model": {}})
    data: Any = SimpleNamespace(cache="ram", recipe=Recipe(), root=tmp_path / "people")
    assert [problem.key for problem in check_folders(cfg, data)] == ["dataset.root"]


@pytest.mark.parametrize("folder", ["/dev/null/x", "{}/inside"])
def test_the_folder_of_a_teachers_outputs_is_checked(tmp_path: Path, folder: str) -> None:
    """Before the teacher computes them."""
    (tmp_path / "gallery.json").touch()
    groups = {"run_dir": str(tmp_path / "../run"), "callbacks": {}, "logger": {}}
    model = {"cache": folder.format(tmp_path)}
    cfg = OmegaConf.create({**groups, "task": "fit", "model": model})
    assert [problem.key for problem in check_folders(cfg, None)] == ["model.cache"]
    assert not check_folders(OmegaConf.merge(cfg, {"task": "test"}), None)


@pytest.mark.parametrize("folder", ["null", "[1]", "''"])
def test_a_run_needs_a_folder(composed: Compose, folder: str) -> None:
    with pytest.raises(ConfigError) as error:
        run(composed(*SHORT, "dataset=folder", f"run_dir={folder}"))
    assert "run_dir" in [problem.key for problem in error.value.problems]


def test_the_check_leaves_nothing(composed: Compose, tmp_path: Path) -> None:
    check(composed(*SHORT, "dataset=folder"))
    assert not (tmp_path / "run").exists()


def test_a_run_folder_as_checkpoint_is_pointed_into(composed: Compose, tmp_path: Path) -> None:
    checkpoint = tmp_path / "old" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with pytest.raises(ConfigError, match=f"ckpt_path={checkpoint}"):
        check(composed(*SHORT, "dataset=folder", f"ckpt_path={checkpoint.parents[1]}"))


@pytest.mark.parametrize("value", [-1, 0, "abc"])
@pytest.mark.parametrize("key", ["model.iterations", "model.student.iterations"])
def test_what_other_keys_take_over_is_one_problem(
    composed: Compose, key: str, value: object
) -> None:
    method = ["model=distilled", "model.teacher=null"] if "student" in key else []
    cfg = composed("dataset=synthetic", "backbone=small", "dataset.p=4", *method, small=False)
    OmegaConf.update(cfg, key, value)
    with pytest.raises(ConfigError) as caught:
        check(cfg)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_what_is_refused_together_is_one_message(composed: Compose) -> None:
    wrong = ("model.lr=0", "trainer.devices=0", "dataset.root=/nowhere", "callbacks.ranking=null")
    with pytest.raises(ConfigError) as error:
        check(composed(*SHORT, "dataset=folder", *wrong))
    keys = {problem.key for problem in error.value.problems}
    assert {"model.lr", "trainer.devices", "dataset", "callbacks.ranking"} <= keys


def test_the_smallest_image_passes(composed: Compose) -> None:
    smallest = ("dataset.transforms.height=3", "dataset.transforms.width=3")
    problems, model = dry_run.try_model(composed(*SHORT, "dataset=folder", *smallest), None)
    assert not problems and model is not None


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("group", "choice"), [(g, c) for g in ("model", "backbone") for c in choices(g)]
)
def test_every_network_is_tried_without_weights(composed: Compose, group: str, choice: str) -> None:
    more = ["model.teacher=null"] if choice == "distilled" else []
    cfg = composed("dataset=synthetic", f"{group}={choice}", *more)
    problems, _ = dry_run.try_model(cfg, None)
    assert not problems


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("NoExits", "NoExits has no exits: set exit_names"),
        ("OnlyEmbeddings", "step('a') returned a tensor (1, 3); expected (state, embeddings)"),
        ("OddChannels", "expected input[1, 3, 256, 256] to have 5 channels"),
    ],
)
def test_a_method_that_does_not_run_is_refused(
    composed: Compose, method: str, message: str
) -> None:
    cfg = composed(*SHORT, "dataset=folder")
    cfg.model = {"_target_": f"tests.broken_methods.{method}"}
    (problem,), model = dry_run.try_model(cfg, None)
    assert model is None and problem.key == "model" and message in problem.allowed


@pytest.mark.parametrize(
    "method",
    [
        ("model=dare",),
        ("model=distilled", "model@model.student=dare", "model.teacher=t.ckpt"),
    ],
)
def test_a_backbone_with_wrong_channels_is_named(composed: Compose, method: list[str]) -> None:
    cfg = composed("backbone=small", "dataset=folder", *method)
    cfg.backbone = {"_target_": "tests.broken_methods.WrongChannels"}
    (problem,), model = dry_run.try_model(cfg, None)
    assert model is None and problem.key == "backbone"
    assert "stage2 gives maps of shape (2, 8, 63, 63)" in str(problem.given)
    assert "(N, 16, h, w)" in problem.allowed


def cases(cfg: DictConfig) -> list[tuple[str, Any]]:
    keys = list(leaves(cfg))
    every = [(key, value) for key in keys for value in SENSELESS]
    return every if TORTURE else every[:: len(every) // 25]


@pytest.mark.system
def test_senseless_values_end_in_one_message_or_are_built(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = composed(*SHORT, "dataset=folder")
    tried, bad = 0, []
    for key, value in cases(cfg):
        changed = put(cfg, key, value)
        try:
            check(changed)
            data, trainer = build_data(changed), build_trainer(changed)
            assert isinstance(trainer, pl.Trainer)
            build_model(changed, data.identities)
        except UserError:
            pass
        except Exception as error:
            bad.append(f"{key}={value!r}: {type(error).__name__}: {error}")
        tried += 1
    print(f"{tried} senseless values tried, {len(bad)} bad")
    assert not bad and tried >= 20


def test_advice_names_tasks_that_exist() -> None:
    files = Path(reid_lab.__file__).parent.rglob("*.py")
    text = "".join(file.read_text("utf-8") for file in files)
    assert {*re.findall(r"\btask=([a-z]+)\b(?!\.)", text)} == {"fit", "test"}
