"""Thresholds for false-accept rates in a checkpoint, fitted on people held out from training.

They are valid for its weights only: a resumed training drops them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from reid_lab.checkpoint.fingerprints import fingerprint_of_state
from reid_lab.checkpoint.read import CheckpointError, read_checkpoint
from reid_lab.errors import first_line
from reid_lab.files.atomic import write_torch
from reid_lab.openset.thresholds import AcceptThresholdsByExit

KEY = "accept_thresholds"
_ADAPTER: TypeAdapter[AcceptThresholdsByExit] = TypeAdapter(AcceptThresholdsByExit)


def accept_thresholds_of(
    state: Mapping[str, Any], checkpoint: Path | str
) -> AcceptThresholdsByExit:
    """The thresholds in the content of a checkpoint: exit -> metric -> thresholds of each kind.

    Empty if the checkpoint has none, or if they are of other weights.

    Raises:
        CheckpointError: they are malformed.
    """
    kept = state.get(KEY)
    if kept is None:
        return {}
    try:
        if kept["fingerprint"] != fingerprint_of_state(state):
            return {}
        return _ADAPTER.validate_json(json.dumps(kept["exits"]), strict=True)
    except (ValidationError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{checkpoint} holds malformed thresholds ({first_line(error)}): give a checkpoint "
            "that this version wrote"
        ) from error


def read_accept_thresholds(checkpoint: Path | str) -> tuple[str, AcceptThresholdsByExit]:
    """The fingerprint of a checkpoint and its thresholds; see `accept_thresholds_of`.

    Raises:
        CheckpointError: no checkpoint of this suite.
    """
    state = read_checkpoint(checkpoint)
    return fingerprint_of_state(state), accept_thresholds_of(state, checkpoint)


def with_accept_thresholds(
    state: dict[str, Any], found: AcceptThresholdsByExit, fingerprint: str
) -> None:
    """Add thresholds, fitted on the weights of `fingerprint`, to the content of a checkpoint."""
    exits = {
        exit: {metric: [asdict(each) for each in kinds] for metric, kinds in metrics.items()}
        for exit, metrics in found.items()
    }
    state[KEY] = {"fingerprint": fingerprint, "exits": exits}


def put_accept_thresholds(path: Path, found: AcceptThresholdsByExit, fingerprint: str) -> bool:
    """Add thresholds to a checkpoint, if they are of its weights; everything else is kept.

    Returns:
        Whether they were added.
    """
    return change_checkpoint(
        path, fingerprint, lambda state: with_accept_thresholds(state, found, fingerprint)
    )


def change_checkpoint(
    path: Path, fingerprint: str, change: Callable[[dict[str, Any]], None]
) -> bool:
    """Change the content of a checkpoint in place, if it has the weights of `fingerprint`.

    The file is replaced as a whole.

    Returns:
        Whether it was changed.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if fingerprint_of_state(state) != fingerprint:
        return False
    change(state)
    write_torch(path, state)
    return True
