"""Memory of each exit: weights, and the peak of live tensors. PLA, section 4.5."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reid_lab.backbone.condensenet import LearnedGroupConv
from reid_lab.cost.latency import Exits, wait_for


@dataclass(frozen=True)
class Memory:
    """Memory of one exit, cumulative.

    Only modules that ran are counted: no classifiers, which are for training, and no later exits.

    Attributes:
        parameters: number of parameters.
        weight_bytes: bytes of parameters and buffers, such as running means.
        peak_memory_bytes: peak bytes of tensors up to this exit, with images, without weights.
    """

    parameters: int
    weight_bytes: int
    peak_memory_bytes: int


def measure_memory(exits: Exits, images: Tensor, module: nn.Module) -> dict[str, Memory]:
    """Memory for each exit's embeddings of `images` (N, 3, H, W), by name.

    Peaks on the CPU count the tensors that operations return, as long as they live, without scratch
    space inside operations. On a GPU they are the peaks of torch's allocator, with scratch space.
    """
    condensed = [m.condensed for m in module.modules() if isinstance(m, LearnedGroupConv)]
    learned = {id(w) for w in (*module.parameters(), *condensed)}
    weights = [*module.parameters(), *module.buffers()]
    with torch.compiler.set_stance("force_eager"):  # compiled graphs would hide operations
        found = _tracked(exits, images, weights, learned)
        if images.is_cuda:
            peaks = _allocated(exits, images)
            return {n: Memory(m.parameters, m.weight_bytes, peaks[n]) for n, m in found.items()}
    return found


def _tracked(
    exits: Exits, images: Tensor, weights: list[Tensor], learned: Collection[int]
) -> dict[str, Memory]:
    """Memory of each exit; `learned` are the ids of the weights that count as parameters."""
    found = {}
    # inference mode would keep some operations whole that consist of several
    with torch.inference_mode(False), torch.no_grad(), LiveTensors(weights, [images]) as live:
        for name, _ in exits(images):
            used = [w for w in weights if _key(w.untyped_storage()) in live.used]
            found[name] = Memory(
                sum(w.numel() for w in used if id(w) in learned),
                sum(w.numel() * w.element_size() for w in used),
                live.peak,
            )
    return found


@torch.inference_mode()
def _allocated(exits: Exits, images: Tensor) -> dict[str, int]:
    """The allocator's peak until each exit, minus the usage before, plus the images."""
    for _ in exits(images):  # what stays: kernels' workspaces
        pass
    wait_for(images.device)
    before = torch.cuda.memory_allocated(images.device) - images.untyped_storage().nbytes()
    torch.cuda.reset_peak_memory_stats(images.device)
    peaks = {}
    for name, _ in exits(images):
        wait_for(images.device)
        peaks[name] = torch.cuda.max_memory_allocated(images.device) - before
    return peaks


class LiveTensors(TorchDispatchMode):
    """Tracks the storages that operations return until they are freed.

    Args:
        weights: tensors whose storages are added to `used` when an operation reads them.
        images: input, counted from the start.
    """

    def __init__(self, weights: list[Tensor], images: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.used: set[int] = set()
        self.bytes = self.peak = 0
        self._weights = {_key(w.untyped_storage()) for w in weights}
        self._alive: dict[int, Callable[[], object]] = {}  # weak references
        for image in images:
            self._add(image.untyped_storage())

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        taken = {_key(s) for s in _storages((args, kwargs))}
        self.used |= taken & self._weights
        result = func(*args, **kwargs)
        for storage in _storages(result):
            self._add(storage)
        return result

    def _add(self, storage: UntypedStorage) -> None:
        key, size = _key(storage), storage.nbytes()
        if key in self._weights or key in self._alive:  # views share a storage
            return

        def give_back(_: object) -> None:
            del self._alive[key]
            self.bytes -= size

        self._alive[key] = weakref.ref(storage, give_back)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)


def _storages(tree: Any) -> Iterator[UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _key(storage: UntypedStorage) -> int:
    result: int = storage._cdata  # of the storage itself: its Python objects may come and go
    return result
