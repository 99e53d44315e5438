"""MobileNet v1's variants against computations by hand, and timm's network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone import MobileNet
from reid_lab.backbone.mobilenet import SameConv2d, layer_keys
from reid_lab.dataset.transforms import MEAN, STD
from tests.backbone.weights.drawn import drawn_images, drawn_weights


def drawn_network(variant: Any, alpha: float = 0.25) -> MobileNet:
    network = MobileNet(alpha, variant=variant).eval()
    state = network.state_dict()
    own = {key: value for key, value in state.items() if "renormalise" in key}
    network.load_state_dict(drawn_weights({k: tuple(v.shape) for k, v in state.items()}) | own)
    return network


def between_one(images: Tensor) -> Tensor:
    """Images normalised by ImageNet's mean and deviation -> from -1 to 1."""
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    return 2 * (images * std + mean) - 1


def by_hand(network: MobileNet, x: Tensor, eps: float, same: bool, six: bool) -> Tensor:
    """The network's convolutions in order, on its tensors alone."""
    state = network.state_dict()
    for number, (conv, norm) in enumerate(layer_keys()):
        kernel = state[f"{conv}.weight"]
        stride = 2 if number in (0, 3, 7, 11, 23) else 1  # the first, and four depthwise ones
        if kernel.shape[-1] == 3:
            # rows and columns of zeros before and behind, for outputs of ceil(size / stride)
            odd = [size % 2 for size in x.shape[2:]] if stride == 2 else [1, 1]
            before = [0 if same and not each else 1 for each in odd]
            x = F.pad(x, (before[1], 1, before[0], 1))
        depthwise = kernel.shape[1] == 1 and number > 0
        x = F.conv2d(x, kernel, stride=stride, groups=len(kernel) if depthwise else 1)
        mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        scale = state[f"{norm}.weight"] / (var + eps).sqrt()
        x = (x - mean.view(-1, 1, 1)) * scale.view(-1, 1, 1)
        x = (x + state[f"{norm}.bias"].view(-1, 1, 1)).clamp(0, 6 if six else None)
    return x


@torch.no_grad()
@pytest.mark.parametrize(
    ("variant", "eps", "same", "six"),
    [("plain", 1e-5, False, False), ("timm", 1e-5, False, True), ("tf_slim", 1e-3, True, True)],
)
@pytest.mark.parametrize("size", [(64, 32), (65, 47)], ids=["even", "odd"])
def test_variants_equal_a_computation_by_hand(
    variant: str, eps: float, same: bool, six: bool, size: tuple[int, int]
) -> None:
    network, images = drawn_network(variant), 100 * drawn_images(*size)  # above 6 in places
    given = images if variant == "plain" else between_one(images)
    expected = by_hand(network, given, eps, same, six)
    ours = network(images)
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    if size == (64, 32):  # each of the switches changes the result
        for other in ((eps * 100, same, six), (eps, not same, six), (eps, same, not six)):
            assert (ours - by_hand(network, given, *other)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("size", range(5, 9))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_same_padding(size: int, stride: int, kernel: int) -> None:
    """ceil(size / stride) outputs, and at most one row more of zeros behind than before."""
    layer = SameConv2d(1, 1, kernel, stride, bias=False)
    nn.init.ones_(layer.weight)
    found = layer(torch.ones(1, 1, size, size))[0, 0]
    count = -(-size // stride)
    zeros = max((count - 1) * stride + kernel - size, 0)
    starts = [stride * i - zeros // 2 for i in range(count)]
    inside = [min(start + kernel, size) - max(start, 0) for start in starts]
    expected = torch.tensor(inside, dtype=torch.float32)
    torch.testing.assert_close(found, expected[:, None] * expected)


def test_the_variant_changes_no_key_of_the_weights() -> None:
    keys = {*MobileNet(0.25).state_dict()}
    more = {*MobileNet(0.25, variant="tf_slim").state_dict()} - keys
    assert more == {f"stages.stage1.renormalise.{name}" for name in ("scale", "shift")}
