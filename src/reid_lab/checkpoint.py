"""Checkpoints: their content, safe loading, allowed classes, fingerprints.

A checkpoint is a file from anywhere. `torch.load` reads it as tensors and plain types only, every
part is checked before it is used, and the classes that its config names are looked up in an
explicit list; nothing is imported because a file names it.

Embeddings can be compared if the fingerprints of their models are equal. It covers the
weights, the config and the normalisation of the images; their size is stored beside it. An export
that computes the same has the same one, one of another precision has its own.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import reid_lab.backbone
import reid_lab.loss
import reid_lab.model
from reid_lab.backbone.weights import WeightsError, WeightsFile
from reid_lab.backbone.weights.found import FoundWeights
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.results.card import ModelCard
from reid_lab.types import MAX_SIDE

PLUGINS = "REID_LAB_PLUGINS"  # modules to import, separated by commas
NORMALISED = {"mean": list(MEAN), "std": list(STD)}
# the normalisation of all fingerprints that do not mention one
UNMENTIONED = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ROOMY = 256  # pixels of a side that every network takes
MAX_DEPTH, MAX_VALUES = 16, 2_000  # of a stored config
PLAIN = (str, bool, int, float, type(None))

T = TypeVar("T", bound=type)
_registered: dict[str, type] = {}


class CheckpointError(UserError):
    """A checkpoint cannot be used: which one, why, and what to give instead."""


# --- the classes that a file may name ---------------------------------------------------------


def register(cls: T) -> T:
    """Allow checkpoints to name a class from outside this package; a decorator.

    The module that calls it has to be imported before the checkpoint is loaded. The command lines
    import the modules that the environment variable `REID_LAB_PLUGINS` lists.
    """
    if not inspect.isclass(cls):
        raise TypeError(f"register takes a class, given {cls!r}")
    _registered[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return cls


def allowed_classes() -> dict[str, type]:
    """Dotted name -> class: the suite's methods, backbones and losses, and what is registered.

    Raises:
        UserError: a module of `REID_LAB_PLUGINS` cannot be imported.
    """
    import_plugins()
    allowed = dict(_registered)
    losses = {name: getattr(reid_lab.loss, name) for name in reid_lab.loss.__all__}
    losses = {name: part for name, part in losses.items() if inspect.isclass(part)}
    for package, parts in (
        ("reid_lab.model", reid_lab.model.METHODS),
        ("reid_lab.backbone", reid_lab.backbone.BACKBONES),
        ("reid_lab.loss", losses),
    ):
        for name, part in parts.items():
            allowed[f"{package}.{name}"] = part
            allowed[f"{part.__module__}.{part.__qualname__}"] = part
    return allowed


def import_plugins() -> None:
    """Import the modules that `REID_LAB_PLUGINS` lists, which register their classes.

    Raises:
        UserError: one of them cannot be imported.
    """
    listed = os.environ.get(PLUGINS, "")
    try:
        for name in filter(None, map(str.strip, listed.split(","))):
            importlib.import_module(name)
    except Exception as error:  # a module of the user's may raise anything
        raise UserError(
            f"{PLUGINS}={listed} cannot be imported ({type(error).__name__}: {error}); give "
            "modules that are on PYTHONPATH or installed, separated by commas"
        ) from error


# --- reading ----------------------------------------------------------------------------------


def read_checkpoint(checkpoint: Path | str) -> dict[str, Any]:
    """What is in a checkpoint, on the CPU: weights and plain types, each part checked.

    Nothing that the file names is imported or run.

    Raises:
        CheckpointError: no file, no checkpoint of this suite, or one with invalid content.
    """
    path = Path(checkpoint)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: give a run's checkpoints/last.ckpt")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: give a run's checkpoints/last.ckpt")
    state = _load(path)
    try:
        _check_content(state)
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of reid_lab ({error}): give a run's checkpoints/last.ckpt"
        ) from error
    result: dict[str, Any] = state
    return result


def _load(path: Path) -> Any:
    what = f"{path} is not a checkpoint of reid_lab (it cannot be read"
    fix = "): give a run's checkpoints/last.ckpt"
    try:
        if not zipfile.is_zipfile(path):  # as torch saves; of other files it raises anything
            raise CheckpointError(what + fix)
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # torch writes checksums, but does not read them
    except OSError as error:
        raise CheckpointError(f"{what}: {error.strerror}{fix}") from error
    except Exception as error:  # of a broken zip it may be anything
        raise CheckpointError(what + fix) from error
    if broken is not None:
        raise CheckpointError(f"{what}: {broken} has a wrong checksum{fix}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # objects of another class
        raise CheckpointError(f"{what}: it holds more than tensors and plain types{fix}") from error
    except Exception as error:  # a broken zip or pickle may raise anything
        raise CheckpointError(what + fix) from error


def _check_content(state: Any) -> None:
    """Raises ValueError, saying what is wrong."""
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}")
    kept = state.get("hyper_parameters")
    if not isinstance(kept, dict) or not isinstance(kept.get("model"), dict):
        raise ValueError("it has no config of a model")
    check_plain(kept)
    _check_weights(state.get("state_dict"))
    image = kept.get("image", [1, 1])  # older ones have none
    if not isinstance(image, list) or len(image) != 2 or not all(map(_is_side, image)):
        raise ValueError(f"image={image}; allowed: [height, width], each 1 to {MAX_SIDE}")


def check_plain(value: Any, name: str = "hyper_parameters") -> None:
    """Check that a stored config holds plain values only: nothing to resolve, no endless nesting.

    Raises:
        ValueError: naming what is not plain.
    """
    left = MAX_VALUES

    def walk(value: Any, name: str, depth: int) -> None:
        nonlocal left
        left -= 1
        if depth > MAX_DEPTH or left < 0:
            raise ValueError(f"{name.split('.')[0]} is nested too deeply or too large")
        if isinstance(value, dict):
            for key, child in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"{name} has the key {key!r}, which is not text")
                walk(child, f"{name}.{key}", depth + 1)
        elif isinstance(value, list | tuple):
            for index, child in enumerate(value):
                walk(child, f"{name}.{index}", depth + 1)
        elif not isinstance(value, PLAIN):
            raise ValueError(f"{name} is a {type(value).__name__}, not a plain value")
        elif isinstance(value, str) and ("${" in value or value == "???"):
            raise ValueError(f"{name}={value!r} is not a value")

    walk(value, name, 0)


def _check_weights(weights: Any) -> None:
    if not isinstance(weights, dict) or not weights:
        raise ValueError("it has no state_dict of weights by name")
    for name, weight in weights.items():
        if not isinstance(name, str) or not isinstance(weight, Tensor):
            raise ValueError(f"state_dict[{name!r}] is a {type(weight).__name__}, not a tensor")
        dense = weight.layout is torch.strided and not weight.is_quantized and not weight.is_meta
        # an expanded tensor would be far larger in memory than the file
        if not dense or weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            raise ValueError(f"state_dict[{name!r}] is not a dense tensor")


def check_resumable(state: Mapping[str, Any], checkpoint: Path | str) -> None:
    """Check that a checkpoint holds what is needed to resume, besides the weights.

    Raises:
        CheckpointError: naming what is missing or invalid.
    """
    kinds = {
        "epoch": int,
        "global_step": int,
        "pytorch-lightning_version": str,
        "loops": dict,
        "callbacks": dict,
        "optimizer_states": list,
        "lr_schedulers": list,
        "rng_state": Tensor,
    }
    wrong = [key for key, kind in kinds.items() if not isinstance(state.get(key), kind)]
    if not wrong and state["global_step"] not in _steps_of(state["loops"]):
        wrong = ["loops"]
    if wrong:
        raise CheckpointError(
            f"{checkpoint} holds weights, but no training to resume ({', '.join(wrong)} "
            "missing or not as Lightning writes it): use task=test, or give another checkpoint"
        )


def _steps_of(loops: dict[str, Any]) -> set[Any]:
    """How many optimiser steps the loops have done, as each way of optimising counts them."""
    found = set()
    for path in (
        "epoch_loop.automatic_optimization.optim_progress/optimizer/step/total/completed",
        "epoch_loop.manual_optimization.optim_step_progress/total/completed",
    ):
        node: Any = loops.get("fit_loop")
        for key in path.split("/"):
            node = node.get(key) if isinstance(node, dict) else None
        found |= {node} if type(node) is int else set()
    return found


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_SIDE


# --- building ---------------------------------------------------------------------------------


def load_model(checkpoint: Path | str) -> ReidModule:
    """A trained method from a checkpoint alone, in eval mode, on the CPU.

    Raises:
        CheckpointError: no checkpoint of this suite, or one of a class that is not allowed.
    """
    return revive(read_checkpoint(checkpoint), checkpoint)


def open_model(checkpoint: Path | str) -> tuple[ReidModule, tuple[int, int], str]:
    """What serves: the method of a checkpoint, its image size (H, W), its fingerprint.

    Raises:
        CheckpointError: no checkpoint of this suite or of this version, one without an image size,
            or one trained on images that are normalised in another way.
    """
    state = read_checkpoint(checkpoint)
    kept = state["hyper_parameters"]
    if "image" not in kept:
        raise CheckpointError(f"{checkpoint} does not hold an image size: train it again")
    check_normalised(kept, checkpoint)
    height, width = kept["image"]
    model = revive(state, checkpoint)
    _check_image(state, (height, width), checkpoint)
    key = fingerprint_of(state["state_dict"], kept["model"])
    return model, (height, width), key


def card_of(state: Mapping[str, Any]) -> ModelCard | None:
    """The card of a checkpoint's content; None in those from before there were cards."""
    kept = state.get("hyper_parameters")
    return ModelCard.of(kept.get("card")) if isinstance(kept, Mapping) else None


def read_card(checkpoint: Path | str) -> ModelCard | None:
    """The card of a checkpoint: its training data and their terms; None where it has none.

    Raises:
        CheckpointError: no checkpoint of this suite.
    """
    return card_of(read_checkpoint(checkpoint))


def checkpoint_of(file: WeightsFile, found: FoundWeights, card: ModelCard) -> dict[str, Any]:
    """The content of a checkpoint with the weights of another toolbox.

    Raises:
        WeightsError: a network that we have not, or a file that lacks a part of it.
    """
    if found.model is None:
        raise WeightsError(
            f"{file.path}: {found.toolbox}'s {found.network} cannot be converted: {found.reason}"
        )
    config = dict(found.model)
    try:
        weights = found.convert(file.state)
    except RuntimeError as error:  # sizes that do not go together
        raise WeightsError(
            f"{file.path}: it looks like {found.toolbox}'s {found.network}, but its tensors do "
            f"not fit together ({str(error).splitlines()[0]}): give the whole state dict"
        ) from error
    with torch.device("meta"):
        own = construct(config).state_dict()
    lacking = [name for name in own if name not in weights]
    odd = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    for what, names in (("lacks", lacking), ("has another shape of", odd)):
        if names:
            raise WeightsError(
                f"{file.path}: it looks like {found.toolbox}'s {found.network}, but {what} "
                f"{len(names)} of its tensors (here {names[0]}): give the whole state dict"
            )
    kept = {"model": config, "image": list(found.image), "normalise": NORMALISED}
    content = {
        "state_dict": weights,
        "hyper_parameters": {**kept, "card": card.to_dict()},
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": pl.__version__,
    }
    revive(content, file.path)
    return content


def revive(state: Mapping[str, Any], checkpoint: Path | str) -> ReidModule:
    """The method in what `read_checkpoint` gives, in eval mode.

    Args:
        state: a checkpoint's content.
        checkpoint: its path, for messages.

    Raises:
        CheckpointError: a class that is not allowed, other settings than its constructor takes,
            weights of another network, or weights that are not finite.
    """
    config, weights = without_weights(state["hyper_parameters"]["model"]), state["state_dict"]
    try:
        check_targets(config)
        _check_shapes(config, weights)
        model: ReidModule = construct(config)
        model.load_state_dict(weights)
    except UserError:
        raise
    except Exception as error:  # a constructor may raise anything for values that it cannot take
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise CheckpointError(
            f"{checkpoint} cannot be loaded by this version of reid_lab ({reason[0].strip()}): "
            "give a checkpoint that this version wrote"
        ) from error
    check_finite(model, checkpoint)
    model.card = card_of(state)
    if "image" in state["hyper_parameters"]:
        height, width = state["hyper_parameters"]["image"]
        model.image = height, width
    return model.eval()


def _check_image(state: Mapping[str, Any], size: tuple[int, int], checkpoint: Path | str) -> None:
    with torch.device("meta"):
        model = construct(without_weights(state["hyper_parameters"]["model"])).eval()
    if not _takes(model, size) and _takes(model, (ROOMY, ROOMY)):
        raise CheckpointError(
            f"{checkpoint} holds an image size of {size[0]}x{size[1]}, which is too small for "
            "its network: give a checkpoint that this version wrote"
        )


def _takes(model: ReidModule, size: tuple[int, int]) -> bool:
    """Whether an image of this size gets through all exits; shapes only, nothing is computed."""
    try:
        with torch.no_grad(), torch.device("meta"):
            model(torch.zeros(1, 3, *size))
    except Exception:  # a network may raise anything; closed forms compute on values
        return False
    return True


def check_targets(config: Any, name: str = "model") -> None:
    """Check that a stored config names allowed classes only; nothing is imported or built.

    Raises:
        CheckpointError: naming the first class that is not allowed.
    """
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_":
                _check_target(value, f"{name}.{key}")
            elif key.startswith("_"):
                raise CheckpointError(
                    f"{name}.{key}: a checkpoint may hold _target_ and plain arguments only"
                )
            else:
                check_targets(value, f"{name}.{key}")
    elif isinstance(config, list | tuple):
        for index, value in enumerate(config):
            check_targets(value, f"{name}.{index}")


def _check_target(target: Any, name: str) -> None:
    if not isinstance(target, str) or target not in allowed_classes():
        raise CheckpointError(
            f"{name}={target!r} is not a class that a checkpoint may name: allowed are the "
            "methods, backbones and losses of reid_lab, and classes that a module of yours "
            f"registers with reid_lab.checkpoint.register; import it with {PLUGINS}=your.module"
        )


def construct(config: Any) -> Any:
    """Build what a checked config describes: `_target_` is the class, the rest its arguments."""
    if isinstance(config, list | tuple):
        return [construct(value) for value in config]
    if not isinstance(config, dict):
        return config
    built = {key: construct(value) for key, value in config.items() if key != "_target_"}
    return allowed_classes()[config["_target_"]](**built) if "_target_" in config else built


def _check_shapes(config: Any, weights: Mapping[str, Tensor]) -> None:
    """Load shapes and types on the meta device: a config may ask for any amount of memory."""
    with torch.device("meta"):
        model = construct(config)
        if not isinstance(model, ReidModule):
            raise ValueError(f"model is a {type(model).__name__}, not a method")
        model.load_state_dict({name: weight.to("meta") for name, weight in weights.items()})
    for name, ours in model.state_dict().items():
        theirs = weights.get(name, ours)  # a module may fill in what older checkpoints lack
        if _kind(theirs) != _kind(ours):  # float32 may be loaded from bfloat16, not from int
            raise ValueError(f"{name} is {theirs.dtype}, its config makes {ours.dtype}")


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def check_finite(model: nn.Module, checkpoint: Path | str) -> None:
    """Check that no weight is NaN or infinite, and no buffer NaN.

    Raises:
        CheckpointError: naming the first that is.
    """
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    broken += [name for name, buffer in model.named_buffers() if buffer.isnan().any()]
    if broken:
        raise CheckpointError(
            f"{checkpoint} holds weights that are not finite ({len(broken)} tensors, first "
            f"{broken[0]}): its training diverged; give an earlier checkpoint, or train again "
            "with a lower learning rate"
        )


def check_normalised(kept: Mapping[str, Any], checkpoint: Path | str) -> None:
    """Check that a checkpoint's images are normalised as ours.

    Raises:
        CheckpointError: they are not.
    """
    normalised = kept.get("normalise", NORMALISED)  # checkpoints from before it was kept
    if normalised != NORMALISED:
        raise CheckpointError(
            f"{checkpoint} was trained on images normalised by {normalised}, here they are by "
            f"{NORMALISED}: give a checkpoint trained on the same"
        )


def without_weights(config: Any) -> Any:
    """The same config, with nothing to download: the checkpoint's weights replace them."""
    if isinstance(config, dict):
        return {k: None if k == "weights" else without_weights(v) for k, v in config.items()}
    if isinstance(config, list):
        return [without_weights(value) for value in config]
    return config


# --- fingerprints -----------------------------------------------------------------------------


def fingerprint(checkpoint: Path | str) -> str:
    """sha256, in hexadecimal, over a checkpoint's weights, its model's config, the normalisation.

    Optimiser, step, callbacks and dates have no effect: a checkpoint that was
    copied, or saved again after a test, has the same fingerprint.

    Raises:
        UserError: no file, or no checkpoint of this suite.
    """
    state = read_checkpoint(checkpoint)
    return fingerprint_of(state["state_dict"], state["hyper_parameters"]["model"])


def fingerprint_of(
    weights: Mapping[str, Tensor],
    config: Any,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> str:
    """The same from the weights by name, the model's config (plain types), the normalisation."""
    digest = hashlib.sha256()
    digest.update(json.dumps(config, sort_keys=True).encode())
    for name in sorted(weights):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {weight.dtype} {list(weight.shape)}\n".encode())
        digest.update(weight.flatten().view(torch.uint8).numpy().data)
    if (tuple(mean), tuple(std)) != UNMENTIONED:
        digest.update(f"\nnormalised by {list(mean)} {list(std)}\n".encode())
    return digest.hexdigest()


def fingerprint_of_variant(fingerprint: str, name: str, content: bytes) -> str:
    """Of a network that computes something else than the one it was made from: its `content`."""
    digest = hashlib.sha256(f"{fingerprint} {name}\n".encode())
    digest.update(content)
    return digest.hexdigest()
