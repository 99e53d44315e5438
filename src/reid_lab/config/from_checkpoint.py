"""Settings that a run takes from a checkpoint: image size, crop, network and weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reid_lab.callbacks import CheckpointFiles
from reid_lab.checkpoint import card_of, check_finite, check_normalised, check_targets, stated
from reid_lab.config.make import image_size
from reid_lab.config.paths import checked_name
from reid_lab.config.resume import differences
from reid_lab.dataset.notes import Info
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.results.card import UNKNOWN

NETWORK = {"model", "backbone", "loss", "experiment"}  # overrides that give one


class LoadedCheckpoint(CheckpointFiles):
    """Passes a checkpoint that was read before to Lightning, once."""

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self.path, self.state = path, state

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        if Path(path) != self.path or not self.state:
            return super().load_checkpoint(path, *args, **options)
        state, self.state = self.state, {}
        return state


def use_trained_size(cfg: DictConfig, state: Mapping[str, Any], given: Sequence[str]) -> str | None:
    """Set the config's image size to that of a checkpoint's training.

    Args:
        cfg: changed in place, unless the user gave a size.
        state: content of the checkpoint to be tested.
        given: the overrides of the command line.

    Returns:
        A note for the console and the report, if the two sizes differ.
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
    return Info(
        f"tested on images of {theirs}, as the checkpoint was trained; the config has {here}"
    )


def use_trained_crop(cfg: DictConfig, state: Mapping[str, Any], given: Sequence[str]) -> str | None:
    """Set the config's crop of a test image to that of a checkpoint that is tested or resumed.

    A resumed training keeps its `enlarge`, which augments its images. Args and returns: see
    `use_trained_size`.
    """
    kept, transforms = state["hyper_parameters"], cfg.dataset.transforms
    trained: dict[str, Any] = {"test_crop": "whole"}
    if "enlarge" in kept and cfg.task == "fit":
        return None
    if "enlarge" in kept:
        trained = {"test_crop": "centre", "enlarge": kept["enlarge"]}
    elif "image" not in kept or transforms.enlarge == 1 or transforms.test_views == 10:
        return None  # not known, the same, or not looked at
    here = {key: transforms[key] for key in trained}
    if here == trained:
        return None
    keys = {override.lstrip("+").partition("=")[0] for override in given}
    if keys & {
        "dataset.transforms",
        *(f"dataset.transforms.{key}" for key in ("test_crop", "enlarge")),
    }:
        tested, before = (" ".join(f"{k}={v}" for k, v in part.items()) for part in (here, trained))
        return f"tested with {tested}, as given on the command line; trained with {before}"
    transforms.update(trained)
    if "enlarge" in kept:
        seen = f"the centre of images enlarged by {kept['enlarge']:g}"
        return Info(f"tested on {seen}, as the checkpoint was trained")
    return (
        "tested on the whole image, as the checkpoint was trained; "
        "dataset.transforms.test_crop=centre tests at the scale of the training images"
    )


def use_trained_network(cfg: DictConfig, state: Mapping[str, Any], given: Sequence[str]) -> str:
    """Set the config's network, and its name, to those of a checkpoint to be tested.

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
    return Info(f"tested with the network of the checkpoint, {trained.get('_target_')}")


def take_weights(model: ReidModule, state: dict[str, Any], checkpoint: Path) -> int:
    """Load a checkpoint's weights into the model of a config; return their step.

    Args:
        model: the model built from the config.
        state: what `read_checkpoint` gives.
        checkpoint: its path, for messages.

    Raises:
        UserError: weights of another network, not finite, or of another normalisation.
    """
    check_normalised(state["hyper_parameters"], f"ckpt_path={checkpoint}")
    theirs, ours = state["hyper_parameters"]["model"], model.hparams["model"]
    content = dict(state)  # Lightning calls the hook on the checkpoint itself, once more
    model.on_load_checkpoint(content)
    try:
        model.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        settings = differences({"model": theirs}, {"model": ours})
        raise UserError(
            f"ckpt_path={checkpoint} holds another network than this config makes: "
            f"{settings or str(error).splitlines()[1].strip()}. Give the settings that it was "
            "trained with, or another checkpoint"
        ) from error
    check_finite(model, f"ckpt_path={checkpoint}")
    return int(state.get("global_step", 0))
