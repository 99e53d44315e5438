"""Steps, hours and memory of a training, logged before its first step."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytorch_lightning as pl
import torch
from rich.filesize import decimal
from torch import Tensor

from reid_lab.compat.lightning import is_attached
from reid_lab.cost.latency import wait_for
from reid_lab.dataset.datamodule import ReidDataModule, data_of
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.types import Points, Role

log = logging.getLogger(__name__)
ADAM = 2  # tensors that an optimiser keeps for each weight, at most


class Preflight(pl.Callback):
    """Times forward and backward passes on noise and logs the expected time and memory.

    Passes run on a copy of the network: weights, batch norm statistics, optimiser state and random
    states are unchanged. The time excludes reading images, the optimiser and validations.

    Args:
        passes: timed passes, after one warm-up pass.

    Raises:
        UserError: a batch does not fit the GPU's memory.
    """

    role: Role = "running"

    def __init__(self, passes: Points = 3) -> None:
        self.passes = passes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.max_steps - trainer.global_step
        if steps <= 0:
            return
        data, device = data_of(trainer), pl_module.device
        module = without_trainer(cast(ReidModule, pl_module))
        with same_random_state(device):
            batch = noise_batch(data, trainer.world_size, device)
            try:
                seconds, memory = self.measure(trainer, module, batch)
            except torch.cuda.OutOfMemoryError as error:
                raise UserError(
                    f"training batches of {batches_of(data)} do not fit the GPU's memory: set a "
                    "smaller dataset.p, dataset.k or dataset.transforms.height and width, a "
                    "smaller network, or trainer.precision=bf16-mixed"
                ) from error
        if trainer.is_global_zero:
            log.info(
                f"training: {steps:,} steps of {batches_of(data)}, about "
                f"{duration(steps * seconds)} ({seconds:.2g} s a step, measured, without "
                f"validations), {decimal(memory)} of memory"
            )

    def measure(
        self, trainer: pl.Trainer, module: ReidModule, batch: dict[str, Tensor]
    ) -> tuple[float, int]:
        """Median seconds per step; bytes of weights, optimiser and one batch."""
        device = module.device
        weights = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
            one_pass(trainer, module, batch)
        times = []
        for _ in range(self.passes):
            wait_for(device)
            began = time.perf_counter()
            one_pass(trainer, module, batch)
            wait_for(device)
            times.append(time.perf_counter() - began)
        # saved tensors hold the weights, too
        return sorted(times)[len(times) // 2], sum(saved.values()) + (1 + ADAM) * weights


def one_pass(trainer: pl.Trainer, module: ReidModule, batch: dict[str, Tensor]) -> None:
    """Forward and backward, at the trainer's precision."""
    module.zero_grad()
    with torch.enable_grad(), trainer.precision_plugin.forward_context():
        loss = torch.stack(list(module.losses(dict(batch)).values())).sum()
    loss.backward()


def without_trainer(module: ReidModule) -> ReidModule:
    """A copy of a network in training, without its trainer."""
    lightning = [m for m in module.modules() if isinstance(m, pl.LightningModule)]
    trainers = {id(m.trainer): None for m in lightning if is_attached(m)}
    copied: ReidModule = copy.deepcopy(module, trainers)
    return copied.train()


@contextmanager
def same_random_state(device: torch.device) -> Iterator[None]:
    """Restore torch's random states, from which networks and losses draw."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def noise_batch(data: ReidDataModule, world: int, device: torch.device) -> dict[str, Tensor]:
    """Normalised noise in the shape of a process' share of a training batch."""
    images = data.images_per_batch // world
    label = torch.arange(images, device=device) // (data.k if data.batch_size is None else 1)
    label %= data.identities
    image = torch.randn(images, 3, *data.transforms.size, device=device)
    return {"image": image, "label": label, "pid": label + 1, "index": torch.zeros_like(label)}


def batches_of(data: ReidDataModule) -> str:
    """Description of the batches: `18 x 4 images at 256x128`."""
    images = f"{data.p} x {data.k}" if data.batch_size is None else str(data.batch_size)
    return f"{images} images at {data.transforms.height}x{data.transforms.width}"


def duration(seconds: float) -> str:
    """A duration in hours, or in minutes if below 60."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
