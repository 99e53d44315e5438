"""Checkpoints from the weights of other toolboxes."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from reid_lab.backbone.weights import WeightsError, WeightsFile
from reid_lab.backbone.weights.found import FoundWeights
from reid_lab.checkpoint.build import NORMALISED, revive
from reid_lab.checkpoint.classes import construct
from reid_lab.errors import first_line
from reid_lab.results.card import ModelCard


def checkpoint_of(file: WeightsFile, found: FoundWeights, card: ModelCard) -> dict[str, Any]:
    """The content of a checkpoint with the weights of another toolbox.

    Raises:
        WeightsError: the suite does not have the network, or the file lacks a part of it.
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
            f"{file.path}: identified as {found.toolbox}'s {found.network}, but its tensors do "
            f"not fit together ({first_line(error)}): give the whole state dict"
        ) from error
    with torch.device("meta"):
        own = construct(config).state_dict()
    lacking = [name for name in own if name not in weights]
    odd = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    for what, names in (("lacks", lacking), ("has another shape of", odd)):
        if names:
            raise WeightsError(
                f"{file.path}: identified as {found.toolbox}'s {found.network}, but {what} "
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
