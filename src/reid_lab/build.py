"""From a composed config to the objects of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from reid_lab.dataset import ReidDataModule
from reid_lab.errors import UserError
from reid_lab.model import ReidModule


def make(node: DictConfig, **more: Any) -> Any:
    """`instantiate`, with what a constructor objects to as the user's error.

    Raises:
        UserError: a constructor found a value that it cannot take.
    """
    try:
        return instantiate(node, **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, (ValueError, OSError)):
            raise UserError(f"{node._get_full_key(None)}: {error.__cause__}") from error
        raise


def build_data(cfg: DictConfig) -> ReidDataModule:
    return make(cfg.dataset)


def build_model(cfg: DictConfig, identities: int | None = None) -> ReidModule:
    """The method, its config kept as plain types in every checkpoint.

    `identities`, the people to train on, is what a model's `identities: null` means.
    """
    node = cfg.model.copy()
    if "identities" in node and node.identities is None:
        node.identities = identities
    model: ReidModule = make(node)
    model.save_hyperparameters({"model": plain(node), "image": image_size(cfg)})
    if cfg.channels_last:
        model.to(memory_format=torch.channels_last)
    if cfg.compile:
        for part in model.compilable:
            part.compile()
    return model


def identities_of(checkpoint: Path) -> int | None:
    """How many people the model in a checkpoint tells apart; None where it does not say."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return (state.get("hyper_parameters", {}).get("model") or {}).get("identities")


def build_trainer(cfg: DictConfig) -> pl.Trainer:
    callbacks = [make(node) for node in (cfg.callbacks or {}).values() if node]
    loggers = [make(node) for node in (cfg.logger or {}).values() if node]
    return make(cfg.trainer, callbacks=callbacks, logger=loggers)


def load_model(checkpoint: Path | str) -> ReidModule:
    """A trained method from a checkpoint alone, in eval mode, on the CPU.

    Raises:
        ValueError: the checkpoint was not written by this suite.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config = state.get("hyper_parameters", {}).get("model")
    if config is None:
        raise ValueError(f"{checkpoint}: no checkpoint of reid_lab, it does not say which model")
    model: ReidModule = instantiate(without_weights(config))
    model.load_state_dict(state["state_dict"])
    return model.eval()


def plain(node: DictConfig) -> Any:
    """Interpolations resolved, containers of Python's own types."""
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)


def image_size(cfg: DictConfig) -> list[int]:
    return [cfg.dataset.transforms.height, cfg.dataset.transforms.width]


def without_weights(config: Any) -> Any:
    """The same config, with nothing to download: the checkpoint's weights replace them."""
    if isinstance(config, dict):
        return {k: None if k == "weights" else without_weights(v) for k, v in config.items()}
    if isinstance(config, list):
        return [without_weights(value) for value in config]
    return config
