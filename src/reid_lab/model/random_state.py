"""The state of the random numbers that a training draws, kept in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CPU, CUDA = "rng_state", "cuda_rng_state"


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the CPU's generator and, for a GPU, of the device's: dropout draws there."""
    state = {CPU: torch.get_rng_state()}
    return state | ({CUDA: torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Set the generators whose states are there: older checkpoints have none of a GPU."""
    if state.get(CPU) is not None:
        torch.set_rng_state(state[CPU])
    if state.get(CUDA) is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state[CUDA], device)
