"""Build the data, the model and the trainer of a run from a composed config."""

from __future__ import annotations

import copy
import inspect
import logging
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint

from reid_lab.backbone.layers import cheaper_backward
from reid_lab.callbacks import CheckpointFiles, ElapsedTime, SharedSpace
from reid_lab.checkpoint import NORMALISED, without_weights
from reid_lab.compat.lightning import set_checkpoint_io
from reid_lab.config.compiled import compile_parts
from reid_lab.config.make import image_size, make, plain
from reid_lab.config.teacher import give_teacher
from reid_lab.dataset import ReidDataModule
from reid_lab.model import ReidModule
from reid_lab.model.distilled import Distilled

log = logging.getLogger(__name__)


def build_data(cfg: DictConfig) -> ReidDataModule:
    result: ReidDataModule = make(cfg, "dataset")
    return result


def build_model(
    cfg: DictConfig, identities: int | None = None, replaced: bool = False
) -> ReidModule:
    """Build the method; its config is kept as plain types in every checkpoint.

    `identities`, the people to train on, is what a model's `identities: null` means. The teacher
    of a student that is going to train is loaded here; the student's checkpoints keep its own
    config.
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
    if cfg.dataset.transforms.test_crop == "centre":
        kept["enlarge"] = float(cfg.dataset.transforms.enlarge)
    if isinstance(model, Distilled):
        kept |= {"model": kept["model"].pop("student"), "distilled": kept["model"]}
        if cfg.task == "fit":
            give_teacher(model, cfg)
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


def build_trainer(cfg: DictConfig, files: CheckpointFiles | None = None) -> pl.Trainer:
    """The trainer, which reads and writes checkpoints by `files`."""
    files = files or CheckpointFiles()
    callbacks, loggers = (
        [make(cfg, f"{group}.{name}") for name, node in (cfg[group] or {}).items() if node]
        for group in ("callbacks", "logger")
    )
    callbacks += [SharedSpace(), ElapsedTime()]
    more: dict[str, Any] = {}
    if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        if cfg.task == "fit":
            log.info("callbacks.checkpoint=null: no checkpoint is kept of this run")
        more = {"enable_checkpointing": False}  # else Lightning adds its own
    trainer: pl.Trainer = make(cfg, "trainer", callbacks=callbacks, logger=loggers, **more)
    set_checkpoint_io(trainer, files)
    return trainer
