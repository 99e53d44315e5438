"""Layers with a cheaper backward pass against PyTorch's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from reid_lab.backbone.layers import DepthwiseConv2d, ReLU6, SameDepthwiseConv2d, cheaper_backward
from reid_lab.backbone.mobilenetv2 import MobileNetV2
from reid_lab.backbone.timm_cnn import TimmCNN
from reid_lab.config.build import build_model
from reid_lab.config.overrides import composed

Sides = int | tuple[int, int]


def gradients(layer: nn.Module, x: Tensor, seed: int = 0) -> list[Tensor]:
    """Output, and gradients of a random projection of it by input and weights."""
    x = x.clone().requires_grad_()
    y = layer(x * 1)  # what an in-place layer may overwrite
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)).to(x.dtype)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])]


class Half(nn.Module):
    """A layer on a part of its input, in place."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        self.layer(x[:, ::2])
        return x


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        (3, 2, 1, (8, 4)),
        (3, 2, 1, (7, 5)),
        (3, 2, 0, (9, 8)),
        (5, 2, 2, (9, 6)),
        (5, 3, 1, (11, 8)),
        (3, (2, 1), (1, 1), (6, 5)),
        ((3, 5), (1, 2), (1, 2), (6, 8)),
        (2, 2, 0, (7, 6)),
        (2, 2, 1, (7, 6)),
        (1, 2, 0, (5, 4)),
        (5, 1, 2, (8, 4)),
        (5, 1, 0, (6, 7)),
        (7, 1, 3, (9, 4)),
        ((1, 5), 1, (0, 2), (3, 6)),
        (4, 1, 1, (5, 5)),
        (7, (1, 2), (3, 2), (8, 9)),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_the_gradients_of_a_depthwise_convolution_are_pytorchs(
    kernel: Sides, stride: Sides, padding: Sides, size: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=bias).bfloat16()
    ours = copy.deepcopy(plain)
    cheaper_backward(ours)
    assert type(ours) is DepthwiseConv2d
    exact = copy.deepcopy(plain).double()
    for fmt in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(3, 6, *size).bfloat16().to(memory_format=fmt)
        for a, b in zip(gradients(ours, x), gradients(plain, x), strict=True):
            assert a.dtype == b.dtype == torch.bfloat16
            torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())
        found = [each.double() for each in gradients(ours, x)]
        for a, b in zip(found, gradients(exact, x.double()), strict=True):
            torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2), ((3, 5), (2, 1))])
@pytest.mark.parametrize("size", [(8, 4), (7, 5), (2, 2)])
def test_timms_padding_is_kept(kernel: Sides, stride: Sides, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = Conv2dSame(6, 6, kernel, stride, groups=6, bias=False)
    ours = copy.deepcopy(plain)
    cheaper_backward(ours)
    assert type(ours) is SameDepthwiseConv2d
    x = torch.randn(3, 6, *size)
    assert torch.equal(ours(x), plain(x))
    plain, ours, x = plain.bfloat16(), ours.bfloat16(), x.bfloat16()
    for a, b in zip(gradients(ours, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())


@pytest.mark.parametrize("inplace", [False, True])
def test_the_gradient_of_relu6_is_pytorchs_at_its_corners_too(inplace: bool) -> None:
    plain = nn.ReLU6(inplace)
    ours = copy.deepcopy(plain)
    cheaper_backward(ours)
    assert type(ours) is ReLU6
    x = torch.tensor([-1.0, 0.0, 1e-30, 3.0, 6.0, 7.0, float("inf"), -float("inf")])
    for a, b in zip(gradients(ours, x), gradients(plain, x), strict=True):
        assert torch.equal(a, b)


def test_an_in_place_relu6_keeps_its_output_only() -> None:
    kept: list[Tensor] = []
    layer = nn.Sequential(nn.ReLU6(inplace=True))
    cheaper_backward(layer)
    x = torch.randn(4, 3, requires_grad=True) * 8
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(x)
    assert [t.data_ptr() for t in kept] == [y.data_ptr()] == [x.data_ptr()]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 6, 3, 1, 1, groups=6),
        nn.Conv2d(6, 6, 3, 2, 1),
        nn.Conv2d(6, 6, 3, 2, 1, groups=3),
        nn.Conv2d(6, 12, 3, 2, 1, groups=6),
        nn.Conv2d(6, 6, 3, 2, 1, dilation=2, groups=6),
        nn.Conv2d(6, 6, 3, 2, 1, groups=6, padding_mode="reflect"),
        nn.Conv2d(6, 6, 3, 2, 3, groups=6),
        nn.ReLU(),
        nn.Hardtanh(0, 6),
    ],
)
def test_other_layers_stay(layer: nn.Module) -> None:
    before = type(layer)
    cheaper_backward(layer)
    assert type(layer) is before


@pytest.mark.parametrize(
    "network",
    [
        MobileNetV2,
        lambda: TimmCNN("mobilenetv2_100", weights=None),
        lambda: TimmCNN("tf_efficientnet_lite0", weights=None),
    ],
)
def test_a_network_trains_as_before(network: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    plain = network().double().train()
    ours = copy.deepcopy(plain)
    cheaper_backward(ours)
    assert {ReLU6, DepthwiseConv2d} <= {type(layer) for layer in ours.modules()}
    x = torch.rand(4, 3, 64, 32, dtype=torch.double)
    for a, b in zip(gradients(ours, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    for a, b in zip(ours.state_dict().items(), plain.state_dict().items(), strict=True):
        assert a[0] == b[0]
        torch.testing.assert_close(a[1], b[1])
    assert torch.equal(ours.eval()(x), plain.eval()(x))


def test_gradients_under_autocast_are_pytorchs() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU6(inplace=True))
    ours = copy.deepcopy(plain)
    cheaper_backward(ours)
    x = torch.randn(4, 8, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x.clone().requires_grad_()).dtype == torch.bfloat16
        found, wanted = gradients(ours, x), gradients(plain, x)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())


def test_weights_that_are_frozen_have_no_gradient() -> None:
    layer = nn.Conv2d(4, 4, 3, 2, 1, groups=4).bfloat16()
    cheaper_backward(layer)
    layer.weight.requires_grad_(False)
    x = torch.randn(2, 4, 8, 4, dtype=torch.bfloat16, requires_grad=True)
    y = layer(x)
    assert "DepthwiseConv2d" in type(y.grad_fn).__name__
    y.sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


def test_a_recorded_pass_has_pytorchs_layers() -> None:
    layer = nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.ReLU6()).bfloat16()
    cheaper_backward(layer)
    x = torch.randn(2, 4, 8, 4, dtype=torch.bfloat16, requires_grad=True)
    traced = torch.jit.trace(layer, x)
    assert "Python" not in str(traced.inlined_graph)


def test_models_of_a_config_have_them() -> None:
    words = ["+experiment=dare_mobilenetv2_cuhk03_cpu", "backbone.weights=null", "run_dir=x"]
    model = build_model(composed(words), 10)
    assert sum(type(layer) is DepthwiseConv2d for layer in model.modules()) == 3


def test_a_compiled_network_has_the_same_gradients() -> None:
    plain = nn.Sequential(
        nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.BatchNorm2d(4), nn.ReLU6(inplace=True)
    )
    cheaper_backward(plain)
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 4, 8, 4)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for a, b in zip(gradients(compiled, x), gradients(plain, x), strict=True):
                assert torch.equal(a, b)


def test_float32_keeps_pytorchs_gradient_of_a_convolution() -> None:
    """It is as fast there."""
    layer = nn.Conv2d(4, 4, 3, 2, 1, groups=4)
    cheaper_backward(layer)
    y = layer(torch.randn(2, 4, 8, 4, requires_grad=True))
    assert type(y.grad_fn).__name__ == "ConvolutionBackward0"


def test_an_in_place_relu6_of_a_view() -> None:
    plain = nn.ReLU6(inplace=True)
    ours = copy.deepcopy(plain)
    cheaper_backward(ours)
    x = torch.randn(4, 6)
    for a, b in zip(*(gradients(Half(layer), x) for layer in (ours, plain)), strict=True):
        assert torch.equal(a, b)
