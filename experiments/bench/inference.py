"""Inference speed on the CPU in images/s, compared with ResNet-50 and torchreid's HA-CNN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Group
from torch import Tensor, nn

from experiments.bench.timing import Comparison, Work, interleaved
from reid_lab.backbone import MobileNet, ResNet
from reid_lab.cost.mul_adds import count_exits
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import HAN, JLML, Classifier, ReidModule

BATCH = 32
THREADS = (1, 2)
REFERENCE = "ResNet-50"
Candidate = tuple[Callable[[Tensor], object], tuple[int, int], int]  # forward, image size, Mul-Adds


@dataclass(frozen=True)
class Inference:
    """Images/s of each network, by the number of threads, and its Mul-Adds."""

    by_threads: Mapping[int, Comparison]
    mul_adds: Mapping[str, int]

    def table(self) -> Group:
        return Group(*(compared.table() for compared in self.by_threads.values()))

    def rows(self) -> list[dict[str, Any]]:
        return [
            {**row, "threads": threads, "mul_adds": self.mul_adds[row["name"]]}
            for threads, compared in self.by_threads.items()
            for row in compared.rows()
        ]


def bench_inference() -> Inference:
    """Batches of 32 images."""
    networks = {name: _ours(model, *size) for name, model, size in _models()}
    peer = _hacnn()
    if peer is not None:
        networks["HA-CNN, torchreid"] = peer
    works: dict[str, Work] = {
        name: partial(_embed, run, torch.randn(BATCH, 3, *size))
        for name, (run, size, _) in networks.items()
    }
    notes = [f"{name}: {cost / 1e6:,.1f} M Mul-Adds" for name, (*_, cost) in networks.items()]
    if peer is None:
        notes.append("torchreid's HA-CNN is skipped: it cannot be imported")
    before, compared = torch.get_num_threads(), {}
    try:
        for threads in THREADS:
            torch.set_num_threads(threads)
            title = f"inference, images/s, threads: {threads}"
            compared[threads] = Comparison(title, interleaved(works), REFERENCE, tuple(notes))
    finally:
        torch.set_num_threads(before)
    return Inference(compared, {name: cost for name, (*_, cost) in networks.items()})


def _models() -> list[tuple[str, ReidModule, tuple[int, int]]]:
    loss = BatchHardTriplet()
    sizes = {"S": "small", "M": "medium", "L": "large"}
    hans = [(f"HAN-{k}", HAN(2, loss, size), (160, 64)) for k, size in sizes.items()]
    return [
        (REFERENCE, Classifier(ResNet(50), 2), (256, 128)),
        *hans,
        ("JLML", JLML(2), (224, 224)),
        ("MobileNet", Classifier(MobileNet(), 2), (128, 128)),
    ]


def _ours(model: ReidModule, height: int, width: int) -> Candidate:
    costs = count_exits(model, height, width)
    model.eval().to(memory_format=torch.channels_last)
    return lambda x: model(_channels_last(x)), (height, width), list(costs.values())[-1]


def _hacnn() -> Candidate | None:
    try:
        from torchreid.models.hacnn import HACNN
    except ImportError:
        return None
    network: nn.Module = HACNN(2, use_gpu=False).eval()
    return network, (160, 64), 544_000_000


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def _embed(run: Callable[[Tensor], object], images: Tensor) -> int:
    run(images)
    return len(images)
