"""Methods from checkpoints: built from the stored config, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_lab.checkpoint.accept_thresholds import accept_thresholds_of
from reid_lab.checkpoint.classes import check_targets, construct
from reid_lab.checkpoint.fingerprints import fingerprint_of_state
from reid_lab.checkpoint.read import CheckpointError, card_of, read_checkpoint
from reid_lab.checkpoint.shared_space import space_problem
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.errors import UserError, last_line
from reid_lab.model import ReidModule

NORMALISED = {"mean": list(MEAN), "std": list(STD)}
ROOMY = 256  # pixels of a side that every network takes


def load_model(checkpoint: Path | str) -> ReidModule:
    """Load a trained method from a checkpoint, in eval mode on the CPU.

    Raises:
        CheckpointError: not a checkpoint of this suite, or one of a class that is not allowed.
    """
    return revive(read_checkpoint(checkpoint), checkpoint)


def open_model(checkpoint: Path | str) -> tuple[ReidModule, tuple[int, int], str]:
    """The method of a checkpoint, the size (H, W) of its images and its fingerprint.

    Images are resized to this size and cropped to `ReidModule.crop`.

    Raises:
        CheckpointError: not a checkpoint of this suite and version, one without an image size, or
            one trained with another normalisation.
    """
    state = read_checkpoint(checkpoint)
    kept = state["hyper_parameters"]
    if "image" not in kept:
        raise CheckpointError(f"{checkpoint} does not hold an image size: train it again")
    check_normalised(kept, checkpoint)
    height, width = kept["image"]
    model = revive(state, checkpoint)
    _check_image(state, (height, width), checkpoint)
    return model, model.image or (height, width), fingerprint_of_state(state)


def revive(state: Mapping[str, Any], checkpoint: Path | str) -> ReidModule:
    """Build the method from the content that `read_checkpoint` returned, in eval mode.

    Args:
        state: content of a checkpoint.
        checkpoint: path of the checkpoint, for messages.

    Raises:
        CheckpointError: a class that is not allowed, settings that its constructor does not take,
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
        raise CheckpointError(
            f"{checkpoint} cannot be loaded by this version of reid_lab ({last_line(error)}): "
            "give a checkpoint that this version wrote"
        ) from error
    check_finite(model, checkpoint)
    model.card = card_of(state)
    model.accept_thresholds = accept_thresholds_of(state, checkpoint)
    model.space_problem = space_problem(model, state)
    if "image" in state["hyper_parameters"]:
        height, width = state["hyper_parameters"]["image"]
        model.image = height, width
        model.see_centre(float(state["hyper_parameters"].get("enlarge", 1)))
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
    """Whether an image of this size passes all exits; shapes only, nothing is computed."""
    try:
        with torch.no_grad(), torch.device("meta"):
            model(torch.zeros(1, 3, *size))
    except Exception:  # a network may raise anything; closed forms compute on values
        return False
    return True


def _check_shapes(config: Any, weights: Mapping[str, Tensor]) -> None:
    """Check shapes and types on the meta device, as a config may require any amount of memory."""
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
        CheckpointError: one is; the first is named.
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
    """Check that a checkpoint was trained with this suite's normalisation of images.

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
    """`config` without pre-trained weights, which the checkpoint's weights replace."""
    if isinstance(config, dict):
        return {k: None if k == "weights" else without_weights(v) for k, v in config.items()}
    if isinstance(config, list):
        return [without_weights(value) for value in config]
    return config
