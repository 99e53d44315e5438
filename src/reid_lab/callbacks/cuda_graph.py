"""Training passes as CUDA graphs, for networks whose kernels are shorter than their launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from reid_lab.errors import UserError, first_line
from reid_lab.model import ReidModule
from reid_lab.model.base import Outputs
from reid_lab.types import Role


class CudaGraph(pl.Callback):
    """Captures a method's `outputs` and their gradients in CUDA graphs and replays them.

    A training step then launches two graphs instead of a thousand kernels or more. The kernels are
    those of an ordinary step; losses, optimiser and validation are not captured. The graphs are
    captured at the first step, on a copy of its batch; buffers of the network and the random state
    are restored.

    Args:
        enabled: False leaves the ordinary passes.

    Raises:
        UserError: before the first batch: no GPU, more than one process, gradients that are
            accumulated, a compiled network; at the first step: operations that cannot be captured.
    """

    role: Role = "running"

    def __init__(self, enabled: bool = False) -> None:
        self.enabled = enabled
        self._captured = False

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
        if not self.enabled or self._captured:
            return
        module = cast(ReidModule, pl_module)
        try:
            graphs = GraphedPass(module, batch["image"], trainer.precision_plugin.forward_context)
        except RuntimeError as error:
            raise UserError(
                f"callbacks.cuda_graph.enabled=true: the network of {type(module).__name__} cannot "
                f"be captured in a CUDA graph ({first_line(error)}); set it to false"
            ) from error
        module.outputs = graphs  # type: ignore[method-assign]
        self._captured = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._captured:
            del pl_module.outputs  # that of its class is left
            self._captured = False


class GraphedPass:
    """A method's `outputs` and their gradients as two graphs, for images of one shape and dtype.

    A backward pass sets the `grad` of all parameters to the same tensors each time: gradients must
    be used before the next pass and cannot be accumulated. The capture changes nothing else of the
    module.

    Args:
        images: (N, 3, H, W) on a GPU. Other shapes, and a module whose mode (training or
            evaluation) has changed since, are passed on to `module.outputs`.
        context: entered around a pass, for mixed precision.

    Raises:
        RuntimeError: an operation cannot be captured, such as one that waits for the GPU.
    """

    def __init__(
        self,
        module: ReidModule,
        images: Tensor,
        context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.ordinary, self.context = module.outputs, context
        self.modules = list(module.modules())
        self.modes = [each.training for each in self.modules]
        self.images = images.clone()
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        with torch.random.fork_rng([images.device], device_type="cuda"):
            self._warm_up()
            self._capture()
        for buffer, before in buffers:
            buffer.copy_(before)  # in place: the graphs know its address
        # what makes the outputs require gradients
        self.trigger = torch.zeros((), device=images.device, requires_grad=True)

    def _warm_up(self) -> None:
        """Let libraries choose algorithms and allocate memory, which a capture does not allow."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                outputs = self._pass()
                self._gradients(outputs, [torch.zeros_like(o) for o in outputs])
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self) -> None:
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.forward):
            outputs = self._pass()
        self.given = [torch.zeros_like(output) for output in outputs]
        with torch.cuda.graph(self.backward, pool=self.forward.pool()):
            self.gradients = self._gradients(outputs, self.given)
        # without the autograd graph, whose nodes would belong to the capture's stream
        self.outputs = [output.detach() for output in outputs]

    def _pass(self) -> list[Tensor]:
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)  # a cached weight would be outside the graph
        try:
            with self.context():
                exits, logits = self.ordinary(self.images)
        finally:
            torch.set_autocast_cache_enabled(cached)
        self.names = list(exits), list(logits)
        return [*exits.values(), *logits.values()]

    def _gradients(self, outputs: list[Tensor], given: list[Tensor]) -> Sequence[Tensor | None]:
        return torch.autograd.grad(outputs, self.parameters, given, allow_unused=True)

    def __call__(self, images: Tensor) -> Outputs:
        if images.shape != self.images.shape or [m.training for m in self.modules] != self.modes:
            return self.ordinary(images)
        self.images.copy_(images)
        flat = iter(_Replay.apply(self, self.trigger))
        exits, logits = ({name: next(flat) for name in names} for names in self.names)
        return Outputs(exits, logits)

    def set_gradients(self) -> None:
        """Add the gradients of the last backward pass to those of the parameters."""
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient
            else:  # of a loss that depends on the parameter itself
                parameter.grad = parameter.grad + gradient


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graphs: GraphedPass, trigger: Tensor) -> tuple[Tensor, ...]:
        ctx.graphs = graphs
        graphs.forward.replay()
        return tuple(output.detach() for output in graphs.outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        graphs: GraphedPass = ctx.graphs
        torch._foreach_copy_(graphs.given, list(gradients))
        graphs.backward.replay()
        graphs.set_gradients()
        return None, None
