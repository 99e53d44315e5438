"""OSNet against the paper's counts (table 3; TPAMI, table 2) and torchreid's names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from reid_lab.backbone import OSNet, WeightsError
from reid_lab.backbone.osnet import OmniScaleBlock, from_torchreid
from reid_lab.cost.mul_adds import count_exits
from reid_lab.model import Classifier, DaRe


@pytest.mark.parametrize(
    ("width", "parameters", "mul_adds"),
    [
        (1.0, 2_169_508, 978_875_392),  # printed: 2.2 M, 978.9 M
        (0.75, 1_285_754, 571_752_192),  # 1.3 M, 571.8 M
        (0.5, 630_034, 272_899_328),  # 0.6 M, 272.9 M
        (0.25, 201_864, 82_314_880),  # 0.2 M, 82.3 M
    ],
)
def test_counts(width: float, parameters: int, mul_adds: int) -> None:
    """With the 512-d layer and without classifier.

    torchreid prints 2,193,616 and 978,878,352 at width 1: it counts a block's gate, which all
    four streams share, once for each of them, and adds biases to the Mul-Adds.
    """
    model = Classifier(OSNet(width), identities=2, fc=512)
    kept = [*model.backbone.parameters(), *model.pool.parameters()]
    assert sum(p.numel() for p in kept) == parameters
    assert count_exits(model, 256, 128)["pool"] == mul_adds


def test_stages() -> None:
    network, x = OSNet(0.25), torch.randn(2, 3, 256, 128)
    assert network.channels == (64, 96, 128, 128)
    shapes = []
    for stage in network.stages.values():
        x = stage(x)
        shapes.append(tuple(x.shape[2:]))
    assert shapes == [(64, 32), (32, 16), (16, 8), (16, 8)]


def test_an_exit_does_not_pay_for_the_transition_behind_it() -> None:
    costs = count_exits(DaRe(OSNet(), nn.Identity(), hidden=16, dim=16), 256, 128)
    stage1, stage2 = costs["stage1"], costs["stage2"] - costs["stage1"]
    assert stage2 > 256 * 256 * 64 * 32 and stage1 < 5e8


def test_the_norm_of_ibn_is_behind_the_sum() -> None:
    block = OmniScaleBlock(16, 16, behind=True).eval()
    assert block.norm is not None
    nn.init.zeros_(block.norm.weight)
    nn.init.constant_(block.norm.bias, 2.0)
    assert (block(torch.randn(2, 16, 8, 4)) == 2).all()


def norms(network: nn.Module) -> list[str]:
    return [name for name, m in network.named_modules() if isinstance(m, nn.InstanceNorm2d)]


def test_where_instance_norm_is() -> None:
    assert not norms(OSNet(0.25))
    blocks = [f"stages.stage1.blocks.{b}.norm" for b in range(2)]
    assert norms(OSNet(0.25, "ibn")) == ["stages.stage1.stem.1", *blocks]
    places = ((1, 0), (1, 1), (2, 1), (3, 0))  # TPAMI, figure 5
    blocks = [f"stages.stage{s}.blocks.{b}.expand.1" for s, b in places]
    assert norms(OSNet(0.25, "ain")) == ["stages.stage1.stem.1", *blocks]


@torch.no_grad()
def test_the_gate_weighs_each_stream() -> None:
    block, x = OmniScaleBlock(64, 64).eval(), torch.randn(2, 64, 8, 4)
    streams = [stream(block.squeeze(x)) for stream in block.streams]
    weighed = sum(stream * block.gate(stream) for stream in streams)
    torch.testing.assert_close(block(x), (block.expand(weighed) + x).relu())


def torchreid_keys(norm: str) -> Iterator[str]:
    """The names of torchreid's parameters, without heads."""

    def conv(name: str, inner: bool = True) -> Iterator[str]:
        yield f"{name}.conv.weight"
        if inner:
            yield from (f"{name}.bn.{part}" for part in ("weight", "bias"))

    def light(name: str) -> Iterator[str]:
        yield from (f"{name}.conv{n}.weight" for n in (1, 2))
        yield from (f"{name}.bn.{part}" for part in ("weight", "bias"))

    inside = {(2, 0), (2, 1), (3, 1), (4, 0)} if norm == "ain" else set()
    yield from conv("conv1")
    yield from conv("conv5")
    for s in (2, 3, 4):
        if s < 4:
            yield from conv(f"pool{s}.0" if norm == "ain" else f"conv{s}.2.0")
        for b in range(2):
            block = f"conv{s}.{b}"
            yield from conv(f"{block}.conv1")
            for t in range(4):
                for layer in range(t + 1):
                    stream = f"conv2{'abcd'[t]}" + f".{layer}" * (t > 0)
                    ain = f"conv2.{t}.layers.{layer}"
                    yield from light(f"{block}.{ain if norm == 'ain' else stream}")
            for fc in ("fc1", "fc2"):
                yield from (f"{block}.gate.{fc}.{part}" for part in ("weight", "bias"))
            yield from conv(f"{block}.conv3", inner=(s, b) not in inside)
            if b == 0:
                yield from conv(f"{block}.downsample")
            if (s, b) in inside or (norm == "ibn" and s == 2):
                yield from (f"{block}.IN.{part}" for part in ("weight", "bias"))


@pytest.mark.parametrize("norm", ["batch", "ibn", "ain"])
def test_torchreids_names_are_ours_renamed(norm: str) -> None:
    network = OSNet(0.25, norm)  # type: ignore[arg-type]
    renamed = [from_torchreid(key, norm) for key in torchreid_keys(norm)]  # type: ignore[arg-type]
    assert sorted(renamed) == sorted(name for name, _ in network.named_parameters())
    assert from_torchreid("fc.0.weight") == "fc.0.weight"


@pytest.mark.parametrize("norm", ["batch", "ain"])
def test_a_file_of_torchreid(tmp_path: Path, norm: str) -> None:
    network = OSNet(0.25, norm)  # type: ignore[arg-type]
    layers = {from_torchreid(k, norm).rpartition(".")[0]: k for k in torchreid_keys(norm)}  # type: ignore[arg-type]
    theirs = {}
    for name, value in network.state_dict().items():
        layer, _, part = name.rpartition(".")
        theirs[f"module.{layers[layer].rpartition('.')[0]}.{part}"] = value
    torch.save(
        {"state_dict": {**theirs, "module.classifier.weight": torch.ones(1)}}, tmp_path / "x"
    )
    again = OSNet(0.25, norm, tmp_path / "x").state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(again[name], value) for name, value in network.state_dict().items())
    with pytest.raises(WeightsError, match=r"of another network.*; allowed .* torchreid's network"):
        OSNet(0.5, norm, tmp_path / "x")  # type: ignore[arg-type]
