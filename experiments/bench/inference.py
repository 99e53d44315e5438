"""Inference speed on the CPU in images/s, compared with ResNet-50 and torchreid's HA-CNN."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from experiments.bench.timing import Comparison, Work, interleaved
from reid_lab.backbone import MobileNet, ResNet
from reid_lab.budget.mul_adds import count_exits
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import HAN, JLML, Classifier, ReidModule

BATCH = 32
REFERENCE = "ResNet-50"
Candidate = tuple[Callable[[Tensor], object], tuple[int, int], int]  # forward, image size, Mul-Adds


def bench_inference() -> Comparison:
    """Images/s of each network in batches of 32."""
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
    rates = interleaved(works)
    return Comparison("inference, images/s", rates, REFERENCE, tuple(notes))


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
