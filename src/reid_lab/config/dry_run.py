"""Build the parts of a config for a check: constructors, image size, memory, callbacks.

The model is built on torch's meta device, whose tensors have shapes but no values: no weights are
read, and the largest networks pass in a second.
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.plugins.environments import SLURMEnvironment
from rich.filesize import decimal
from torch import Tensor

from reid_lab.backbone import Backbone
from reid_lab.backbone.modes import in_mode
from reid_lab.callbacks import RankingEvaluation
from reid_lab.callbacks.after_ranking import AfterRanking
from reid_lab.checkpoint import ROOMY, without_weights
from reid_lab.config.build import fill
from reid_lab.config.choices import conf_dir
from reid_lab.config.make import RefusedError, image_size, make
from reid_lab.config.paths import started_by
from reid_lab.cost.mul_adds import exit_dims
from reid_lab.dataset import ReidDataModule
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.optional import MissingPackageError, load
from reid_lab.output.words import Problem

FLOAT = 4  # bytes
COPIES = 3  # least copies of a parameter in training: weight, gradient, momentum
WIDEST = 1000  # activations in images' sizes; networks of this suite have 20 to 500
NEEDED = {"WandbLogger": "wandb", "ProgressiveSearch": "botorch"}  # class -> package
LIGHTNING = ("pytorch_lightning", "lightning", "lightning.pytorch")  # names of its loggers
PROCESSES = max(8, os.cpu_count() or 1)


def try_model(cfg: DictConfig, data: ReidDataModule | None) -> tuple[list[Problem], Any]:
    """Problems of the model and the image size; without any, also the model."""
    bare = without_files(cfg)
    fill(bare.model, data.identities if data else 2)
    try:
        with torch.device("meta"):
            model: ReidModule = make(bare, "model").to("meta")
    except RefusedError as error:
        return [refusal(cfg, error)], None
    size = image_size(cfg)
    if passes(model, size):
        return [], model
    if not passes(model, (ROOMY, ROOMY)):
        if wrong := wrong_channels(cfg, model):
            return [wrong], None
        # it computes on values, which meta tensors do not have, or its layers do not fit together
        reason = forward_error(make(bare, "model"), (ROOMY, ROOMY), "cpu")
        return [broken_network(cfg, reason)] if reason else [], None
    return [too_small(cfg, key, size, model) for key in small_sides(model, size)], None


def refusal(cfg: DictConfig, error: RefusedError) -> Problem:
    """The reason that a constructor gives."""
    node = OmegaConf.select(cfg, error.key, throw_on_missing=False)
    given = node.get("_target_") if isinstance(node, DictConfig) else node
    fix = f"change its values; --cfg job prints them, +{error.key}.KEY=... adds one"
    return Problem(error.key, given, f"values that it takes: {error.reason}", fix)


def without_files(cfg: DictConfig) -> DictConfig:
    """A copy of the config without weights to load."""
    keys = ("dataset", "backbone", "loss", "model", "seed")
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return OmegaConf.create({key: without_weights(plain.get(key)) for key in keys})


def wrong_channels(cfg: DictConfig, model: ReidModule) -> Problem | None:
    """The first stage of the backbone whose maps have other channels than declared."""
    # of a distilled model its student's
    backbone = next((part for part in model.modules() if isinstance(part, Backbone)), None)
    if backbone is None:
        return None
    try:
        for (stage, shape), channels in zip(_shapes(backbone), backbone.channels, strict=True):
            if len(shape) != 4 or shape[1] != channels:
                given = f"{cfg.backbone._target_}: {stage} gives maps of shape {(*shape,)}"
                allowed = f"(N, {channels}, h, w), as its channels {backbone.channels} say"
                fix = "correct the channels, or what the stage (and `maps`) returns"
                return Problem("backbone", given, allowed, fix)
    except (RuntimeError, ValueError, TypeError, ArithmeticError):
        pass  # a stage that does not run at all; the traceback says where
    return None


def _shapes(backbone: Backbone) -> Iterator[tuple[str, torch.Size]]:
    """Each stage's name and the shape of its maps."""
    with torch.device("meta"):
        x = torch.zeros(2, 3, ROOMY, ROOMY)
    for name, stage in backbone.stages.items():
        with torch.device("meta"):
            x = stage(x)
            maps = backbone.maps(name, x)
        yield name, maps.shape


def broken_network(cfg: DictConfig, error: Exception) -> Problem:
    """The problem of a network that fails for images of any size."""
    location = ""
    if not isinstance(error, UserError):  # the last line that is not torch's own
        torch_home = str(Path(torch.__file__).parent)
        frames = traceback.extract_tb(error.__traceback__)
        last = [f for f in frames if not f.filename.startswith(torch_home)][-1]
        location = f"{Path(last.filename).name}:{last.lineno} ({last.line}): "
    tried = f"one of {ROOMY}x{ROOMY}, tried as large enough for any network, fails"
    allowed = f"a method that takes an image; {tried}: {location}{error}"
    fix = f"change the code of {cfg.model._target_}, or the values that its layers are built from"
    return Problem("model", cfg.model._target_, allowed, fix)


def forward_error(
    model: ReidModule, size: tuple[int, int], device: str = "meta"
) -> Exception | None:
    """The reason why an image of this size does not pass all exits; None if it does."""
    try:
        with torch.device(device):
            exit_dims(model, *size)
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        return error
    return None


def passes(model: ReidModule, size: tuple[int, int]) -> bool:
    """Whether an image of this size passes all exits."""
    return forward_error(model, size) is None


def small_sides(model: ReidModule, size: tuple[int, int]) -> list[str]:
    """The sides that are too small."""
    sides = {"height": (size[0], ROOMY), "width": (ROOMY, size[1])}
    return [name for name, tried in sides.items() if not passes(model, tried)] or ["height"]


def too_small(cfg: DictConfig, side: str, size: tuple[int, int], model: ReidModule) -> Problem:
    """The problem of a too small image, with the smallest possible size, found by bisection."""
    low, high = 0, ROOMY  # too small, large enough
    while high - low > 1:
        middle = (low + high) // 2
        tried = (middle, ROOMY) if side == "height" else (ROOMY, middle)
        low, high = (low, middle) if passes(model, tried) else (middle, high)
    given = size[side == "width"]
    key, network = f"dataset.transforms.{side}", cfg.model._target_.rpartition(".")[2]
    return Problem(key, given, f"at least {high} pixels for {network}", f"{key}={high} or more")


def try_memory(
    cfg: DictConfig, data: ReidDataModule, model: ReidModule | None, trainer: pl.Trainer
) -> list[Problem]:
    """Check that parameters, one batch and the cached images fit the device.

    This is a lower bound: the activations that the backward pass needs for one batch, and the
    largest activation of an evaluation batch. Without a model: the images only.
    """
    device, devices = trainer.strategy.root_device, trainer.num_devices
    total = memory_of(device)
    if total is None:
        return []
    held = data.device_bytes(cfg.task == "fit", devices * trainer.num_nodes)
    if device.type == "cpu":
        held *= devices  # each process has its own
    needs = {} if model is None else batches_need(cfg, data, model, total - held, devices)
    problems = [
        Problem(
            key,
            given,
            f"what fits into {decimal(total)} of memory; this takes {decimal(round(need))} or more",
            "fewer images at once (dataset.p, dataset.k, dataset.batch_size, "
            "dataset.eval_batch_size), smaller ones (dataset.transforms.height, width), or a "
            "smaller network",
        )
        for key, (given, need) in needs.items()
        if need > total
    ]
    beside = max((need for _, need in needs.values() if need <= total), default=0)
    if held and held + beside > total:
        given = f"device: {held:,} bytes of decoded images"
        allowed = f"what fits into {total:,} bytes of memory beside a batch and weights, which take"
        allowed += f" {round(beside):,} or more"
        fix = "dataset.cache=memory or dataset.cache=disk, which keep them outside of the device"
        if devices > 1 and not data.exchange:
            fix += ", or dataset.exchange=true, which divides the training images"
        problems.append(Problem("dataset.cache", given, allowed, fix))
    return problems


def batches_need(
    cfg: DictConfig, data: ReidDataModule, model: ReidModule, room: int, devices: int = 1
) -> dict[str, tuple[str, float]]:
    """Config key -> given value and the bytes that it needs; empty if they fit into `room`.

    Args:
        devices: devices per machine, which share a batch.
    """
    height, width = image_size(cfg)
    weights = sum(p.numel() for p in model.parameters()) * FLOAT
    batch = data.images_per_batch
    views = data.transforms.test_views
    seen = max(data.eval_batch_size // views, 1) * views
    image = 3 * height * width * FLOAT
    if COPIES * weights + max(batch, seen) * image * WIDEST < room:
        return {}  # the count takes seconds
    kept, largest = activations(model, (height, width))
    share = 1 if "32" in str(cfg.trainer.get("precision", 32)) else 0.5
    needs = {
        "dataset.eval_batch_size": (seen, weights + seen * largest * share),
        "model": (batch, COPIES * weights + batch * kept * share / devices),
    }
    if cfg.task == "test":
        del needs["model"]
    tensors = f"{len(list(model.parameters()))} tensors of weights, {decimal(weights)}"
    return {
        key: (f"{tensors}; batches of {images} images of {height}x{width}", need)
        for key, (images, need) in needs.items()
    }


def activations(model: ReidModule, size: tuple[int, int]) -> tuple[int, int]:
    """Bytes of activations per image for the backward pass, and of the largest one."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept)
    with in_mode(model, training=True), torch.device("meta"), hooks:
        model(torch.zeros(2, 3, *size))  # batch norm takes two
    sizes = [bytes_ for key, bytes_ in saved.items() if key not in parameters]
    return sum(sizes) // 2, max(sizes, default=0) // 2


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory; None if the system does not report them."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def try_trainer(cfg: DictConfig) -> tuple[list[Problem], pl.Trainer | None]:
    """Problems of the trainer; without any, also a trainer without callbacks and loggers."""
    if lacking := try_accelerator(cfg):
        return lacking, None
    try:
        trainer = _bare_trainer(cfg)
    except RefusedError as error:
        return [refused_by_trainer(cfg, error)], None
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > PROCESSES:
        allowed = f"at most {PROCESSES} processes on this CPU"
        return [Problem("trainer.devices", trainer.num_devices, allowed, "trainer.devices=1")], None
    if wrong := try_slurm(trainer):
        return wrong, None
    return [], trainer


def _bare_trainer(cfg: DictConfig) -> pl.Trainer:
    with _muted():
        trainer: pl.Trainer = make(
            cfg, "trainer", callbacks=[], logger=False, enable_checkpointing=False
        )
    return trainer


def refused_by_trainer(cfg: DictConfig, error: RefusedError) -> Problem:
    """The key without whose value Lightning takes the others; those that it names come first."""
    if error.key != "trainer":
        return refusal(cfg, error)
    usual = OmegaConf.to_container(OmegaConf.load(conf_dir() / "trainer" / "default.yaml"))
    assert isinstance(usual, dict)

    def position(key: str) -> int:
        match = re.search(rf"\b{re.escape(key)}\b", error.reason)
        return match.start() if match else len(error.reason)

    for key in sorted(map(str, cfg.trainer), key=position):
        name, tried, given = f"trainer.{key}", cfg.copy(), cfg.trainer[key]
        with open_dict(tried.trainer):
            tried.trainer.pop(key)
            if key in usual:
                tried.trainer[key] = usual[key]
        with suppress(RefusedError):
            _bare_trainer(tried)
            fix = f"{name}={tried.trainer[key]}" if key in usual else f"leave out {name}"
            if key == "val_check_interval" and isinstance(given, float):
                fix += ", or trainer.check_val_every_n_epoch=1, too, for a share of an epoch"
            return Problem(name, given, f"values that it takes: {error.reason}", fix)
    return refusal(cfg, error)


def try_accelerator(cfg: DictConfig) -> list[Problem]:
    """A problem if the trainer is to use a GPU and torch finds none."""
    given = OmegaConf.select(cfg, "trainer.accelerator")
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found["gpu"] = any(found.values())
    if not isinstance(given, str) or found.get(given, True):
        return []
    allowed = "cpu or auto: torch finds no such device on this machine"
    fix = (
        "trainer=cpu; nvidia-smi lists NVIDIA GPUs, which also need a torch that is built for CUDA"
    )
    return [Problem("trainer.accelerator", given, allowed, fix)]


def try_slurm(trainer: pl.Trainer) -> list[Problem]:
    """Problems if SLURM does not start one task per device; none outside of SLURM.

    Lightning reports this only when training starts, and never for one device, on which each task
    would train separately.
    """
    given = os.environ
    of_tasks = isinstance(getattr(trainer.strategy, "cluster_environment", None), SLURMEnvironment)
    if not of_tasks and ("SLURM_STEP_ID" not in given or started_by() != "SLURM"):
        return []
    each = int(given.get("SLURM_NTASKS", 1)) // int(given.get("SLURM_NNODES", 1))
    tasks, devices = int(given.get("SLURM_NTASKS_PER_NODE", each)), trainer.num_devices
    if tasks == devices:
        return []
    allowed = f"{tasks}, SLURM's tasks a machine"
    fix = f"--ntasks-per-node={devices}; in a sweep hydra.launcher.tasks_per_node={devices}"
    return [Problem("trainer.devices", devices, allowed, fix)]


@contextmanager
def _muted() -> Iterator[None]:
    """Silence Lightning's list of accelerators, which is printed again later."""
    loggers = [logging.getLogger(f"{name}.utilities.rank_zero") for name in LIGHTNING]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def try_packages(cfg: DictConfig, group: str) -> list[Problem]:
    """Problems of missing packages that loggers and callbacks need; a test needs no search."""
    problems = []
    for name, node in (cfg[group] or {}).items():
        target = str((node or {}).get("_target_"))
        package = NEEDED.get(target.rpartition(".")[2])
        if package is None or (package == "botorch" and cfg.task == "test"):
            continue
        key = f"{group}.{name}"
        try:
            load(package, key)
        except MissingPackageError as error:
            allowed = f"a class whose package {package} can be imported ({error.__cause__})"
            fix = f"{error.fix}, or leave it out: {key}=null"
            problems.append(Problem(key, target, allowed, fix))
    return problems


def try_callbacks(
    cfg: DictConfig, data: ReidDataModule | None, model: ReidModule | None
) -> list[Problem]:
    """Problems of the callbacks, and of the exits that they name."""
    problems: list[Problem] = []
    ranking: RankingEvaluation | None = None
    waiting: list[str] = []  # for a ranking that does not come before them
    ranks = False  # one is there, even if it is refused
    for name, node in (cfg.callbacks or {}).items():
        if node is None:
            continue
        ranks |= str(node.get("_target_")).endswith(f".{RankingEvaluation.__name__}")
        try:
            callback = make(cfg, f"callbacks.{name}")
            if isinstance(callback, RankingEvaluation):
                ranking = callback
                if data and model and (data.recipe is None or ranking.pca is None):
                    ranking.count(data, model)
            elif getattr(callback, "needs_ranking", False) and not ranks:
                waiting.append(str(name))
            elif isinstance(callback, AfterRanking) and ranking and ranking.mul_adds and model:
                callback.check(ranking.mul_adds, model)
        except RefusedError as error:
            problems.append(refusal(cfg, error))
        except UserError as error:
            fix = f"change it, or leave it out: callbacks.{name}=null"
            problems.append(Problem(f"callbacks.{name}", node._target_, str(error), fix))
    if waiting:
        fix = "keep it, or leave out, too: " + " ".join(
            f"callbacks.{name}=null" for name in waiting
        )
        allowed = f"{', '.join(waiting)} require callbacks.ranking"
        problems.append(Problem("callbacks.ranking", None, allowed, fix))
    return problems
