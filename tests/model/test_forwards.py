"""Methods and their networks against plain functions of the same weights, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone import MobileNet
from reid_lab.model import HAN, JLML, PLA, Classifier, DaRe, SEResNets
from tests.methods import batch, method

IMAGES = batch()["image"][:3]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    """Batch norm of evaluation, by its definition."""
    shape = (-1, *[1] * (x.ndim - 2))
    mean, var = layer.running_mean.view(shape), layer.running_var.view(shape)  # type: ignore[union-attr, operator]
    scaled = (x - mean) / (var + 1e-5).sqrt()
    return scaled * layer.weight.view(shape) + layer.bias.view(shape)  # type: ignore[union-attr, operator]


class Layers:
    """A module's convolutions, norms and linear layers, one after the other as they are defined."""

    def __init__(self, module: nn.Module) -> None:
        kinds = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)
        self.left = [part for part in module.modules() if isinstance(part, kinds)]

    def conv(self, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        """A convolution and its norm; `padding` keeps the size, where none is given."""
        layer, after = self.left.pop(0), self.left.pop(0)
        weight: Tensor = layer.weight  # type: ignore[assignment]
        groups = x.shape[1] // weight.shape[1]
        around = weight.shape[2] // 2 if padding is None else padding
        return norm(F.conv2d(x, weight, None, stride, around, groups=groups), after)

    def linear(self, x: Tensor) -> Tensor:
        layer = self.left.pop(0)
        product = x @ layer.weight.T  # type: ignore[union-attr, operator]
        return product if layer.bias is None else product + layer.bias  # type: ignore[operator]

    def norm(self, x: Tensor) -> Tensor:
        return norm(x, self.left.pop(0))

    def end(self) -> None:
        assert not self.left


def small(network: nn.Module, x: Tensor) -> list[Tensor]:
    """The four stages of `SmallResNet`: a stem, then a basic block a stage."""
    layers, found = Layers(network), []
    x = F.max_pool2d(layers.conv(x, 2).relu(), 2)
    for stage in range(4):
        stride = 1 if stage == 0 else 2
        inner = layers.conv(layers.conv(x, stride).relu())
        x = (inner + (x if stage == 0 else layers.conv(x, stride))).relu()
        found.append(x)
    layers.end()
    return found


def head(module: nn.Module, maps: Tensor, strips: int = 1) -> Tensor:
    """DaRe, section 3.1: average pool, FC with norm and ReLU, FC."""
    layers = Layers(module)
    pooled = torch.stack([strip.mean((2, 3)) for strip in maps.chunk(strips, 2)], 2).flatten(1)
    rows = layers.linear(layers.norm(layers.linear(pooled)).relu())
    layers.end()
    return rows


@pytest.mark.parametrize("strips", [1, 2])
def test_dare(strips: int) -> None:
    model = method("dare", f"model.strips={strips}", "model.cross_entropy=1")
    assert isinstance(model, DaRe)
    weights = model.fusion.weights.normal_()
    stages = small(model.backbone, IMAGES)
    heads = model.heads.values()
    rows = [head(h, maps, strips) for h, maps in zip(heads, stages, strict=True)]
    expected = {f"stage{number}": row for number, row in enumerate(rows, 1)}
    expected["fusion"] = sum(
        (w * row for w, row in zip(weights, rows, strict=True)), torch.zeros(1)
    )
    torch.testing.assert_close(model(IMAGES), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["se_small", "se_resnets"])
def test_an_ensemble(name: str) -> None:
    model = method(name)
    assert isinstance(model, SEResNets)
    expected = {
        exit: head(network[1], small(network[0], IMAGES)[-1])
        for exit, network in model.networks.items()
    }
    torch.testing.assert_close(model(IMAGES), expected, atol=1e-5, rtol=1e-4)


def test_the_classifier() -> None:
    model = method("classifier")
    assert isinstance(model, Classifier)
    pooled = small(model.backbone, IMAGES)[-1].mean((2, 3))
    exits, logits = model.outputs(IMAGES)
    torch.testing.assert_close(exits, {"pool": pooled}, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, {"pool": Layers(model.classifier).linear(pooled)})


def test_pla() -> None:
    """Section 3.1: global max pooling, a 1x1 convolution for each of two heads."""
    model = method("pla", "model.head=bare", "model.pool=max")
    assert isinstance(model, PLA)
    pooled = small(model.backbone, IMAGES)[-1].amax((2, 3))
    heads = [Layers(model.heads[name]).linear(pooled) for name in ("triplet", "cross_entropy")]
    exits, logits = model.outputs(IMAGES)
    torch.testing.assert_close(exits, {"embedding": torch.cat(heads, 1)}, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, {"embedding": Layers(model.classifier).linear(heads[1])})


# Howard et al. 2017, table 1: channels and stride of the depthwise separable units
MOBILENET = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
MOBILENET += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]


@pytest.mark.parametrize("alpha", [1.0, 0.75, 0.5, 0.25])
def test_mobilenet(alpha: float) -> None:
    network, images = MobileNet(alpha).double().eval(), IMAGES.double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.05, 0.2)  # type: ignore[union-attr]
            nn.init.uniform_(module.bias, 0, 0.5)
    layers = Layers(network)
    x = layers.conv(images, 2).relu()
    assert x.shape[1] == 32 * alpha
    maps = []
    for channels, stride in MOBILENET:
        x = layers.conv(layers.conv(x, stride).relu()).relu()
        assert x.shape[1] == channels * alpha
        maps.append(x)
    layers.end()
    y, ends = images, (1, 3, 5, 11, 13)  # the unit behind which a stage ends
    for stage, end in zip(network.stages.values(), ends, strict=True):
        y = stage(y)
        torch.testing.assert_close(y, maps[end - 1])
    assert (x > 0).any() and (x == 0).any()


def jlml_levels(module: nn.Module, x: Tensor) -> Tensor:
    """Table 1: four levels of three bottlenecks, the stride in the first 1x1, average pool."""
    layers = Layers(module)
    for level in range(4):
        for unit in range(3):
            stride = 2 if level and not unit else 1
            inner = layers.conv(x, stride).relu()
            inner = layers.conv(layers.conv(inner).relu())
            # the first unit's output is as wide as its input on the global branch's first level
            same = stride == 1 and inner.shape[1] == x.shape[1]
            x = (inner + (x if same else layers.conv(x, stride))).relu()
    layers.end()
    return x.mean((2, 3))


@pytest.mark.parametrize("shared", [True, False])
def test_jlml(shared: bool) -> None:
    model = method("jlml", f"model.shared_stem={shared}")
    assert isinstance(model, JLML)
    net = model.network
    maps = Layers(net.stem).conv(IMAGES, 2).relu()
    own = maps if net.local_stem is None else Layers(net.local_stem).conv(IMAGES, 2).relu()
    assert (net.local_stem is None) == shared
    whole = jlml_levels(net.global_branch.levels, F.max_pool2d(maps, 3, 2, 1))
    parts = []
    for strip, stream in zip(own.chunk(2, 2), net.local_branch.streams, strict=True):
        below = torch.cat([strip, torch.zeros_like(strip[:, :, :1])], 2)
        parts.append(jlml_levels(stream, F.max_pool2d(below, 2, (1, 2))))
    both = (
        Layers(net.global_branch.fc).linear(whole),
        Layers(net.local_branch.fc).linear(torch.cat(parts, 1)),
    )
    expected = {"global": both[0], "local": both[1], "joint": torch.cat(both, 1)}
    exits, logits = model.outputs(IMAGES)
    torch.testing.assert_close(exits, expected, atol=1e-5, rtol=1e-4)
    for name, rows, classifier in zip(("global", "local"), both, model.classifiers, strict=True):
        torch.testing.assert_close(logits[name], rows @ classifier.weight.T)  # type: ignore[operator]


# HAN, table 1: where a level's three units halve the maps
HALVING = {"small": (2, 1, 1), "medium": (1, 2, 1), "large": (1, 1, 2)}


def depthwise(layers: Layers, x: Tensor, stride: int) -> Tensor:
    """Figure 4c: 1x1 and its norm and ReLU, then 3x3 of each channel by itself."""
    return layers.conv(layers.conv(x).relu(), stride).relu()


def regions(x: Tensor, centres: Tensor, size: tuple[int, int]) -> Tensor:
    """Equation 7: each of four regions as wide as the image and a quarter as high."""
    theta = torch.zeros(len(x), 4, 2, 3)
    theta[..., 0, 0], theta[..., 1, 1], theta[..., 2] = 1, 0.25, centres
    grid = F.affine_grid(theta.flatten(0, 1), [len(x) * 4, x.shape[1], *size], align_corners=False)
    return F.grid_sample(x.repeat_interleave(4, 0), grid, align_corners=False)


@pytest.mark.parametrize("size", HALVING)
def test_han(size: str) -> None:
    model = method("han", f"model.size={size}")
    assert isinstance(model, HAN)
    net = model.network
    x = Layers(net.conv1).conv(IMAGES, 2).relu()
    streams: Tensor | None = None
    for level in net.levels:
        start = x
        layers = Layers(level.block)
        for stride in HALVING[size]:
            x = depthwise(layers, x, stride)
        layers.end()
        signature = x.mean((2, 3), keepdim=True)
        layers = Layers(level.soft)  # type: ignore[arg-type]
        coarse = layers.conv(x.mean(1, keepdim=True), 2).relu()
        wide = F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
        spatial = layers.conv(wide).relu()
        channel = layers.conv(layers.conv(signature).relu()).relu()
        soft = layers.conv(spatial * channel).relu().sigmoid()  # (N, C, h, w), 0.5 to 1
        layers.end()
        x = x * soft
        centres = Layers(level.hard).linear(signature.flatten(1)).tanh().view(-1, 4, 2)  # type: ignore[arg-type]
        shape = (round(0.3 * start.shape[2]), round(0.875 * start.shape[3]))  # 24x28 of 80x32
        shape = shape if streams is None else (streams.shape[2], streams.shape[3])
        seen = regions(start, centres, shape)
        streams = depthwise(Layers(level.local), seen if streams is None else seen + streams, 2)
    assert streams is not None
    features = []
    for part, pooled in (
        (net.global_fc, x.mean((2, 3))),
        (net.local_fc, streams.mean((2, 3)).view(len(IMAGES), -1)),
    ):
        layers = Layers(part)
        features.append(layers.norm(layers.linear(pooled)).relu())
    rows = [f / f.norm(dim=1, keepdim=True) for f in features]
    expected = {"global": rows[0], "local": rows[1], "joint": torch.cat(rows, 1)}
    for found in (model(IMAGES), model.outputs(IMAGES).exits):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    for logits, feature, classifier in zip(
        model.outputs(IMAGES).logits.values(), features, model.classifiers, strict=True
    ):
        torch.testing.assert_close(logits, feature @ classifier.weight.T, atol=1e-4, rtol=1e-3)  # type: ignore[operator]


def test_a_student_is_the_method_that_it_trains() -> None:
    model, same = method("distilled"), method("classifier")
    model.student.load_state_dict(same.state_dict())  # type: ignore[union-attr, operator]
    torch.testing.assert_close(model(IMAGES), same(IMAGES))
