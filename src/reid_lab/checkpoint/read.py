"""Read checkpoints safely: tensors and plain values only, each part is checked, nothing is run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.files.regular import no_file
from reid_lab.output import arguments
from reid_lab.results.card import ModelCard
from reid_lab.types import MAX_SIDE

MAX_DEPTH, MAX_VALUES = 16, 2_000  # limits of a stored config
PLAIN = (str, bool, int, float, type(None))


class CheckpointError(UserError):
    """A checkpoint cannot be used: which one, why, and what to give instead."""


def read_checkpoint(checkpoint: Path | str) -> dict[str, Any]:
    """The content of a checkpoint on the CPU: weights and plain types, each part checked.

    Nothing that the file names is imported or run.

    Raises:
        CheckpointError: no such file, not a checkpoint of this suite, or invalid content.
    """
    path = arguments.path("checkpoint", checkpoint)
    if not path.is_file():
        raise CheckpointError(f"{path} {no_file(path)}: give a run's checkpoints/last.ckpt")
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
    enlarge = kept.get("enlarge", 1)  # only where the network sees the centre of an image
    if type(enlarge) not in (int, float) or not 1 <= enlarge <= 4:
        raise ValueError(f"enlarge={enlarge}; allowed: 1 to 4")


def check_plain(config: Any) -> None:
    """Check that a stored config has plain values only, without interpolations or endless nesting.

    Raises:
        ValueError: a value is not plain; it is named.
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

    walk(config, "hyper_parameters", 0)


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
    """Check that a checkpoint has everything that resuming needs besides the weights.

    Raises:
        CheckpointError: a part is missing or invalid; it is named.
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
    """Number of optimiser steps that the loops have done, by each way of optimising."""
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


def card_of(state: Mapping[str, Any]) -> ModelCard | None:
    """The card in a checkpoint's content; None in older checkpoints."""
    kept = state.get("hyper_parameters")
    return ModelCard.of(kept.get("card")) if isinstance(kept, Mapping) else None


def read_card(checkpoint: Path | str) -> ModelCard | None:
    """The card of a checkpoint: its training data and their terms; None if it has none.

    Raises:
        CheckpointError: no checkpoint of this suite.
    """
    return card_of(read_checkpoint(checkpoint))
