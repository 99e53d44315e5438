"""Latency of each exit on this device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter

import torch
from torch import Tensor

# images (N, 3, H, W) -> (name, embeddings (N, D)), cumulative and lazy, as `ReidModule.exits`
Exits = Callable[[Tensor], Iterable[tuple[str, Tensor]]]
WARM_UP = 3  # passes that are not counted


@torch.inference_mode()
def time_exits(
    exits: Exits, images: Tensor, repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds from the images to each exit's embeddings, in each of several passes.

    Every pass runs all exits, so that other load on the machine affects them equally.

    Args:
        repeats: measured passes, after `WARM_UP` others.
        seconds: limit for all passes; no pass starts later, but one of each kind is always run.
    """
    deadline = perf_counter() + seconds
    time_pass(exits, images)
    for _ in range(WARM_UP - 1):
        if perf_counter() < deadline:
            time_pass(exits, images)
    passes = [time_pass(exits, images)]
    while len(passes) < repeats and perf_counter() < deadline:
        passes.append(time_pass(exits, images))
    return {name: [one[name] for one in passes] for name in passes[0]}


def time_pass(exits: Exits, images: Tensor) -> dict[str, float]:
    """Seconds from the start of one lazy pass to each exit, with a GPU synchronised at each."""
    wait_for(images.device)
    start = perf_counter()
    taken = {}
    for name, _ in exits(images):
        wait_for(images.device)
        taken[name] = perf_counter() - start
    return taken


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
