"""Training passes as CUDA graphs, for networks whose kernels are shorter than their launches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.model.base import Outputs


class CudaGraph(pl.Callback):
    """Captures a method's `outputs` and their gradients in CUDA graphs, and replays them.

    A training step then launches two graphs in place of a thousand kernels or more. The kernels
    are those of an ordinary step; losses, optimiser and validation stay outside. The graphs are
    captured at the first step, on a copy of its batch; the network's buffers and the random state
    are as before.

    Raises:
        UserError: before the first batch: no GPU, more than one process, gradients that are
            accumulated, a compiled network; at the first step: operations that cannot be captured.
    """

    def __init__(self, enabled: bool = False) -> None:
        self.enabled = enabled
        self._captured: nn.Module | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not self.enabled or stage != "fit":
            return
        compiled = any(m._compiled_call_impl is not None for m in pl_module.modules())
        for wrong, why in (
            (trainer.strategy.root_device.type != "cuda", "trainer.accelerator=gpu"),
            (trainer.world_size > 1, "trainer.devices=1"),
            (trainer.accumulate_grad_batches > 1, "trainer.accumulate_grad_batches=1"),
            (compiled, "compile=false"),
        ):
            if wrong:
                raise UserError(
                    f"callbacks.cuda_graph.enabled=true needs {why}: set it, or "
                    "callbacks.cuda_graph.enabled=false"
                )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.enabled or self._captured is not None:
            return
        module = cast(ReidModule, pl_module)
        try:
            self._captured = capture(
                module, batch["image"], trainer.precision_plugin.forward_context
            )
        except RuntimeError as error:
            raise UserError(
                f"callbacks.cuda_graph.enabled=true: the network of {type(module).__name__} cannot "
                f"be captured in a CUDA graph ({str(error).splitlines()[0]}); set it to false"
            ) from error
        graphed = _by_shape(self._captured, module.outputs, batch["image"].shape)
        module.outputs = graphed  # type: ignore[method-assign,assignment]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._captured is not None:
            del pl_module.outputs  # that of its class is left
            self._captured = None


class _Pass(nn.Module):
    """A method's `outputs` as a module; autocast is entered inside, and so not in its gradient."""

    def __init__(
        self, module: ReidModule, context: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        super().__init__()
        self.module, self.context = module, context
        self.outputs = module.outputs  # of the class, before it is replaced

    def forward(self, images: Tensor) -> Outputs:
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # a cached weight would be outside the graph
        try:
            with self.context():
                return self.outputs(images)
        finally:
            torch.set_autocast_cache_enabled(cached)


def capture(
    module: ReidModule, images: Tensor, context: Callable[[], AbstractContextManager[Any]]
) -> nn.Module:
    """Graphs of a pass over images like these (N, 3, H, W), a module that returns `Outputs`."""
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    device = images.device
    with torch.random.fork_rng([device], device_type="cuda"):
        graphed = torch.cuda.make_graphed_callables(
            _Pass(module, context), (images.clone(),), allow_unused_input=True
        )
    for name, value in module.named_buffers():
        value.copy_(buffers[name])  # in place: the graphs know the address
    return cast(nn.Module, graphed)


def _by_shape(
    graphed: nn.Module, eager: Callable[[Tensor], Outputs], shape: torch.Size
) -> Callable[[Tensor], Outputs]:
    """The graphed pass for images of this shape, the eager one for any other."""
    return lambda images: graphed(images) if images.shape == shape else eager(images)
