"""Build the objects of a run from a composed config."""

from __future__ import annotations

import copy
import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import AsyncCheckpointIO
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from reid_lab.backbone.layers import cheaper_backward
from reid_lab.backbone.weights.load import StartedFrom
from reid_lab.callbacks import CheckpointFiles, SharedSpace
from reid_lab.checkpoint import (
    NORMALISED,
    card_of,
    check_finite,
    check_normalised,
    check_targets,
    fingerprint_of,
    read_checkpoint,
    revive,
    stated,
    without_weights,
)
from reid_lab.config.compiled import compile_parts
from reid_lab.config.nodes import home
from reid_lab.config.paths import checked_name
from reid_lab.config.resume import unlike
from reid_lab.dataset import ReidDataModule, Transforms
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.model.distilled import Distilled
from reid_lab.model.teacher import Teacher
from reid_lab.results.card import UNKNOWN, ModelCard, licence_of
from reid_lab.results.provenance import commit

log = logging.getLogger(__name__)
NETWORK = {"model", "backbone", "loss", "experiment"}  # overrides that give one
# raised by constructors for invalid values; HYDRA_FULL_ERROR=1 shows the traceback
REFUSALS = (ValueError, TypeError, ArithmeticError, OSError, RuntimeError, ImportError)


class RefusedError(UserError):
    """A constructor refused a value: its `key`, and the `reason` that it gave."""

    def __init__(self, key: str, reason: object) -> None:
        self.key, self.reason = key, str(reason).strip()
        super().__init__(f"{key}: {self.reason}")


def make(cfg: DictConfig, key: str, **more: Any) -> Any:
    """`instantiate` what is under `key`, with what a constructor refuses as the user's error.

    Raises:
        RefusedError: a constructor refused a value.
    """
    try:
        return instantiate(OmegaConf.select(cfg, key), **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, (*REFUSALS, MisconfigurationException)):
            keys = home(OmegaConf.to_container(cfg, resolve=False), refusing(cfg, key))
            raise RefusedError(".".join(keys), error.__cause__) from error
        raise


def refusing(cfg: DictConfig, key: str) -> list[str]:
    """The innermost node at or below `key` that cannot be built by itself."""
    node = OmegaConf.select(cfg, key)
    names = list(node) if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        inner = f"{key}.{name}"
        if OmegaConf.is_config(OmegaConf.select(cfg, inner)):
            try:
                instantiate(OmegaConf.select(cfg, inner))
            except InstantiationException:
                return refusing(cfg, inner)
    return key.split(".")


def build_data(cfg: DictConfig) -> ReidDataModule:
    result: ReidDataModule = make(cfg, "dataset")
    return result


def build_model(
    cfg: DictConfig, identities: int | None = None, replaced: bool = False
) -> ReidModule:
    """Build the method; its config is kept as plain types in every checkpoint.

    `identities`, the people to train on, is what a model's `identities: null` means. A student
    meets its teacher here, if it is going to train; what its checkpoints keep is its own config.
    `replaced`: a checkpoint's weights replace all others, which are not loaded.

    Raises:
        UserError: a constructor refuses a value, or the teacher does not fit.
    """
    filled = copy.deepcopy(cfg)
    fill(filled.model, identities)
    built = copy.deepcopy(filled)
    if replaced:
        built.model = without_weights(plain(filled.model))
    model: ReidModule = make(built, "model")
    defaults = inspect.signature(type(model)).parameters
    newer = {key: defaults[key].default for key in model.unstated}
    kept: dict[str, Any] = {"model": {**newer, **plain(filled.model)}}
    kept |= {"image": list(image_size(cfg)), "normalise": NORMALISED}
    if cfg.dataset.transforms.view == "centre":
        kept["enlarge"] = float(cfg.dataset.transforms.enlarge)
    if isinstance(model, Distilled):
        kept |= {"model": kept["model"].pop("student"), "distilled": kept["model"]}
        if cfg.task == "fit":
            teach(model, cfg)
    model.save_hyperparameters(kept)
    cheaper_backward(model)
    if cfg.channels_last:
        model.to(memory_format=torch.channels_last)
    if cfg.compile:
        compile_parts(model)
    return model


def fill(node: DictConfig, identities: int | None) -> None:
    """Give each `identities: null` of a model's config its value."""
    for key in map(str, node):
        if key == "identities" and node[key] is None:
            node[key] = identities
        elif not OmegaConf.is_interpolation(node, key) and isinstance(node[key], DictConfig):
            fill(node[key], identities)


def teach(student: Distilled, cfg: DictConfig) -> None:
    """Load a student's teacher.

    Raises:
        UserError: the teacher cannot be loaded, or does not fit the student.
    """
    if cfg.model.cache is not None:
        check_repeated(cfg)
    teacher = None if cfg.model.teacher is None else load_teacher(cfg.model.teacher)
    if teacher is not None and cfg.channels_last:
        teacher.module.to(memory_format=torch.channels_last)
    student.learn_from(teacher, image_size(cfg))


def load_teacher(checkpoint: str) -> Teacher:
    """Load any checkpoint of reid_lab as a teacher; its images must be normalised as ours.

    Raises:
        UserError: no checkpoint of this suite, or images normalised in another way.
    """
    path = Path(checkpoint).expanduser()
    state = read_checkpoint(path)
    kept = state["hyper_parameters"]
    check_normalised(kept, f"model.teacher={path}")
    if "image" not in kept:
        raise UserError(f"model.teacher={path} does not hold an image size: train it again")
    key = fingerprint_of(state["state_dict"], kept["model"])
    model = revive(state, f"model.teacher={path}")
    return Teacher(model, tuple(kept["image"]), str(path), key)


def check_repeated(cfg: DictConfig) -> None:
    """Check that training images are not augmented, as the cache of a teacher's outputs requires.

    Raises:
        UserError: they are augmented, or the student teaches itself.
    """
    transforms = make(cfg, "dataset.transforms")
    tested = {key: getattr(transforms, key) for key in ("height", "width", "view", "views")}
    if transforms != Transforms(**tested, enlarge=1, flip=0, erase=0):
        raise UserError(
            f"model.cache={cfg.model.cache}: a teacher's outputs can be kept where each image is "
            "always shown the same; set dataset.transforms.enlarge=1 flip=0 erase=0 and no patch "
            "or colour jitter, or model.cache=null"
        )
    if cfg.model.teacher is None:
        raise UserError("model.cache: a student that teaches itself changes; set model.cache=null")


class LoadedCheckpoint(CheckpointFiles):
    """Gives Lightning a checkpoint that was read before, once."""

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self.path, self.state = path, state

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        if Path(path) != self.path or not self.state:
            return super().load_checkpoint(path, *args, **options)
        state, self.state = self.state, {}
        return state


def use_trained_size(cfg: DictConfig, state: Mapping[str, Any], given: Sequence[str]) -> str | None:
    """Set the config's image size to that which a checkpoint was trained at.

    Args:
        cfg: changed in place, unless the user gave a size.
        state: the checkpoint that is going to be tested.
        given: the overrides of the command line.

    Returns:
        A note for the console and the report, where the two sizes differ.
    """
    trained = state["hyper_parameters"].get("image")
    ours = list(image_size(cfg))
    if trained is None or trained == ours:
        return None
    keys = {override.lstrip("+").partition("=")[0] for override in given}
    theirs, here = (f"{height}x{width}" for height, width in (trained, ours))
    if keys & {"dataset.transforms", "dataset.transforms.height", "dataset.transforms.width"}:
        return f"tested on images of {here}, as given on the command line; trained on {theirs}"
    cfg.dataset.transforms.height, cfg.dataset.transforms.width = trained
    return f"tested on images of {theirs}, as the checkpoint was trained; the config has {here}"


def use_trained_view(cfg: DictConfig, state: Mapping[str, Any], given: Sequence[str]) -> str | None:
    """Set the config's view of a test image to that of a checkpoint that is tested or resumed.

    A resumed training keeps its own `enlarge`, which its images are augmented by. Args and returns:
    as `use_trained_size`.
    """
    kept, transforms = state["hyper_parameters"], cfg.dataset.transforms
    trained: dict[str, Any] = {"view": "whole"}
    if "enlarge" in kept and cfg.task == "fit":
        return None
    if "enlarge" in kept:
        trained = {"view": "centre", "enlarge": kept["enlarge"]}
    elif "image" not in kept or transforms.enlarge == 1 or transforms.views > 1:
        return None  # not known, the same, or not looked at
    here = {key: transforms[key] for key in trained}
    if here == trained:
        return None
    keys = {override.lstrip("+").partition("=")[0] for override in given}
    if keys & {"dataset.transforms", *(f"dataset.transforms.{key}" for key in ("view", "enlarge"))}:
        tested, before = (" ".join(f"{k}={v}" for k, v in part.items()) for part in (here, trained))
        return f"tested with {tested}, as given on the command line; trained with {before}"
    transforms.update(trained)
    if "enlarge" in kept:
        seen = f"the centre of images enlarged by {kept['enlarge']:g}"
        return f"tested on {seen}, as the checkpoint was trained"
    return (
        "tested on the whole image, as the checkpoint was trained; dataset.transforms.view=centre "
        "tests at the scale of the training images"
    )


def use_trained_network(cfg: DictConfig, state: Mapping[str, Any], given: Sequence[str]) -> str:
    """Set the config's network, and its name, to those of a checkpoint that is going to be tested.

    Args:
        cfg: changed in place, unless the user gave a network or an experiment.
        state: what `read_checkpoint` gives.
        given: the overrides of the command line.

    Returns:
        A note for the console and the report; empty if nothing was changed.

    Raises:
        CheckpointError: the checkpoint names a class that is not allowed.
    """
    keys = {re.split(r"[=.@]", override.lstrip("+~"))[0] for override in given}
    if keys & NETWORK:
        return ""
    trained = state["hyper_parameters"]["model"]
    check_targets(trained)
    cfg.model = stated(trained)
    cfg.backbone, cfg.loss = trained.get("backbone"), trained.get("loss")
    if OmegaConf.select(cfg, "trainer.max_steps") is None:  # a converted network has no length
        cfg.trainer.max_steps = 0
    card = card_of(state)
    if card and card.recipe != UNKNOWN and "name" not in keys:
        with suppress(UserError):
            cfg.name = checked_name(card.recipe)
    return f"tested with the network of the checkpoint, {trained.get('_target_')}"


def take_weights(model: ReidModule, state: dict[str, Any], checkpoint: Path) -> int:
    """Load a checkpoint's weights into the model that a config makes; returns their step.

    Args:
        model: as the config makes it.
        state: what `read_checkpoint` gives.
        checkpoint: its path, for messages.

    Raises:
        UserError: they are of another network, not finite, or of images normalised in another way.
    """
    check_normalised(state["hyper_parameters"], f"ckpt_path={checkpoint}")
    theirs, ours = state["hyper_parameters"]["model"], model.hparams["model"]
    content = dict(state)  # Lightning calls the hook on the checkpoint itself, once more
    model.on_load_checkpoint(content)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        settings = unlike({"model": theirs}, {"model": ours})
        raise UserError(
            f"ckpt_path={checkpoint} holds another network than this config makes: "
            f"{settings or str(error).splitlines()[1].strip()}. Give the settings that it was "
            "trained with, or another checkpoint"
        ) from error
    check_finite(model, f"ckpt_path={checkpoint}")
    return int(state.get("global_step", 0))


def give_card(
    model: ReidModule, cfg: DictConfig, data: str, state: Mapping[str, Any] | None
) -> None:
    """Give a model the card of its training, kept in its checkpoints; or of the one it tests.

    Args:
        data: name of the data set.
        state: of the checkpoint that is tested or resumed.
    """
    if cfg.task != "fit":
        model.card = card_of(state or {})
        return
    files = {start.weights: start.card for start in _files_of(model)}
    if isinstance(model, Distilled) and model.teacher is not None:
        files[cfg.model.teacher] = model.teacher.module.card
    started = list(dict.fromkeys(_started_from(plain(cfg.model))))
    cards = [_card_in(source, files.get(source)) for source in started]
    model.card = ModelCard(
        data=data,
        data_licence=licence_of(data),
        pretraining="; ".join(card.data for card in cards) or "none",
        pretraining_licence="; ".join(card.data_licence for card in cards) or UNKNOWN,
        recipe=str(cfg.name),
        commit=commit(),
    )
    model.hparams["card"] = model.card.to_dict()


def changed_backbones(model: ReidModule, cfg: DictConfig) -> list[str]:
    """Notes on settings of a backbone that its weights, a checkpoint of ours, were not made with.

    Such as the last stride: the weights fit any, and have other features.
    """
    notes = []
    given = cfg.get("backbone") or {}
    for start in _files_of(model):
        if given.get("weights") == start.weights:
            notes += [
                f"backbone.weights={start.weights} was trained with backbone.{key}={value}, here "
                f"it is {given[key]}"
                for key, value in start.backbone.items()
                if key not in ("_target_", "weights") and key in given and given[key] != value
            ]
    return notes


def _files_of(model: ReidModule) -> list[StartedFrom]:
    """The weights files that the parts of a model started from."""
    found = [getattr(module, "started_from", None) for module in model.modules()]
    return [start for start in found if isinstance(start, StartedFrom)]


def _started_from(config: Any) -> Iterator[str]:
    """The weights that a model's config starts from: a teacher's, too."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key in ("weights", "teacher") and isinstance(value, str):
                yield value
            else:
                yield from _started_from(value)
    elif isinstance(config, list):
        for value in config:
            yield from _started_from(value)


def _card_in(source: str, card: ModelCard | None) -> ModelCard:
    """What weights were trained on: `imagenet`, or a file; its name where it has no card."""
    if source == "imagenet":
        return ModelCard(data="ImageNet-1K", data_licence=licence_of("imagenet"))
    name = Path(source).name
    return replace(card, data=f"{name}, trained on {card.data}") if card else ModelCard(name)


def build_trainer(cfg: DictConfig, files: CheckpointFiles | None = None) -> pl.Trainer:
    """The trainer, which reads and writes checkpoints by `files`."""
    files = files or CheckpointFiles()
    callbacks, loggers = (
        [make(cfg, f"{group}.{name}") for name, node in (cfg[group] or {}).items() if node]
        for group in ("callbacks", "logger")
    )
    callbacks.append(SharedSpace())
    more: dict[str, Any] = {}
    if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        if cfg.task == "fit":
            log.warning("callbacks.checkpoint=null: no checkpoint is kept of this run")
        more = {"enable_checkpointing": False}  # else Lightning adds its own
    trainer: pl.Trainer = make(cfg, "trainer", callbacks=callbacks, logger=loggers, **more)
    given = trainer.strategy._checkpoint_io  # by trainer.plugins; asking the property sets one
    if given is None:
        trainer.strategy.checkpoint_io = files
    elif isinstance(given, AsyncCheckpointIO) and given.checkpoint_io is None:
        given.checkpoint_io = files
    return trainer


def plain(node: DictConfig) -> Any:
    """Interpolations resolved, containers of Python's own types."""
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def image_size(cfg: DictConfig) -> tuple[int, int]:
    """Height, width."""
    return cfg.dataset.transforms.height, cfg.dataset.transforms.width
