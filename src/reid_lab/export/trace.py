"""Trace a method to one ONNX graph, with names for all tensors between its steps."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.errors import first_line
from reid_lab.model import ReidModule
from reid_lab.model.base import State
from reid_lab.runtime.manifest import PIXELS, ExportError

TRACED = 3  # images while tracing: 0 and 1 are special to the tracer
IMAGES = "images"  # normalised: each stage that takes them makes them from the pixels


@dataclass(frozen=True)
class StepNames:
    """The names of the tensors that one step reads and returns.

    Args:
        before: names of its input state.
        made: positions of the new tensors in its output state.
        names: names of the new tensors, and of its exit at the end.
    """

    exit: str
    before: tuple[str, ...]
    made: tuple[int, ...]
    names: tuple[str, ...]


class Network(nn.Module):
    """Pixels (N, H, W, 3) uint8 -> flat outputs of all steps, the embeddings last in each."""

    mean: Tensor
    scale: Tensor

    def __init__(self, method: ReidModule, image: tuple[int, int]) -> None:
        super().__init__()
        self.method, self.image = method, image
        self.plans: list[StepNames] = []
        # as `reid_lab.dataset.transforms.normalise` does it
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(STD).view(3, 1, 1) * 255))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        with Exportable():
            for plan, (_, _, after, rows) in zip(self.plans, self.steps(pixels), strict=True):
                found += [*(after[i] for i in plan.made), rows]
        return tuple(found)

    def steps(self, pixels: Tensor) -> Iterator[tuple[str, State, State, Tensor]]:
        """Yield each exit with the states before and after it, and its embeddings."""
        state: State = (self.normalised(pixels),)
        for exit in self.method.exit_names:
            after, rows = self.method.step(exit, state)
            yield exit, state, after, rows.float()
            state = after

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels (N, H, W, 3) uint8 -> images (N, 3, H, W)."""
        images = self.method.cropped(pixels.permute(0, 3, 1, 2))
        return (images.float() - self.mean) * self.scale

    def plan(self, pixels: Tensor) -> list[StepNames]:
        """Name the tensors by running the method: a tensor that a step passes on keeps its name."""
        names: dict[int, str] = {}
        held: list[Tensor] = []  # an id is a tensor's for as long as it lives
        plans = []
        for exit, before, after, rows in self.steps(pixels):
            given = tuple(names.get(id(t), IMAGES) for t in before)
            made = []
            names.setdefault(id(rows), exit)
            for i, tensor in enumerate(after):
                if id(tensor) not in names and not any(tensor is t for t in before):
                    names[id(tensor)] = f"{exit}.{i}"
                    made.append(i)
            held += [*before, *after, rows]
            own = tuple(names[id(after[i])] for i in made)
            plans.append(StepNames(exit, given, tuple(made), (*own, exit)))
        return plans


class Exportable(TorchFunctionMode):
    """Replaces operations without an ONNX operator by those with one.

    Also replaces those that torch is slow to decompose.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.embedding_bag:
            return _embedding_bag(*args, **(kwargs or {}))
        if func is F.hardtanh:
            return _hardtanh(*args, **(kwargs or {}))
        if func is F.adaptive_avg_pool2d:
            return _adaptive_avg_pool2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    *,
    mode: str = "mean",
    per_sample_weights: Tensor | None = None,
    padding_idx: int | None = None,
    **of_training: Any,
) -> Tensor:
    """Bags of the same size, `input` (B, K), summed by `per_sample_weights` (B, K) -> (B, D)."""
    odd = offsets is not None or max_norm is not None or padding_idx is not None
    if odd or mode != "sum" or input.ndim != 2:
        raise ExportError("only embedding bags that are weighted sums of rows can be exported")
    shares = per_sample_weights
    rows = weight[input.reshape(-1)].view(*input.shape, weight.shape[1])
    return (rows if shares is None else rows * shares[..., None]).sum(1)


def _hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """ReLU6, too: the same `Clip` in a third of the time."""
    return input.clamp(min_val, max_val)


def _adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """A mean over the whole map, without torch's `Gather` for the memory format.

    OpenVINO 2026.4 gathers wrong numbers from maps in INT8.
    """
    if output_size in (1, (1, 1), [1, 1]):
        return input.mean((2, 3), keepdim=True)
    return F.adaptive_avg_pool2d(input, output_size)


def trace(method: ReidModule, image: tuple[int, int]) -> tuple[onnx.ModelProto, Network]:
    """Trace a method in eval mode on the CPU for images (height, width): its graph and module.

    The graph's outputs are all `names` of the module's plans.

    Raises:
        ExportError: ONNX lacks an operation, or the graph works for one batch size only.
    """
    pixels = torch.zeros(TRACED, *image, 3, dtype=torch.uint8)
    network = Network(method, image).eval()
    with torch.no_grad():
        network.plans = network.plan(pixels)
        try:
            with silenced():
                graph = _graph(network, pixels)
        except ExportError:
            raise
        except Exception as error:  # the tracer's have no common base
            raise ExportError(
                f"{type(method).__name__} cannot be exported to ONNX ({type(error).__name__}: "
                f"{first_line(error)}): serve it with PyTorch, or write its steps with operations "
                "that ONNX has, for any number of images"
            ) from error
    return graph, network


def _graph(network: Network, pixels: Tensor) -> onnx.ModelProto:
    names = [name for plan in network.plans for name in plan.names]
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (pixels,), dynamic_shapes=shapes, strict=False)
    made = torch.onnx.export(program, input_names=[PIXELS], output_names=names, dynamo=True)
    assert made is not None
    graph: onnx.ModelProto = made.model_proto
    for part in (*graph.graph.node, *graph.graph.value_info, *graph.graph.initializer, graph.graph):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")  # stack traces, with this machine's paths
    return graph


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Silence progress, warnings and advice of torch, onnxscript, NNCF and litert-torch."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
