from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone.han import ConvNorm, HarmoniousAttentionNetwork, crop
from reid_lab.backbone.han.attention import (
    HardAttention,
    SoftAttention,
    boxes,
    sample_by_grid,
    sample_from_table,
    squeeze,
    strips,
)
from reid_lab.backbone.han.units import global_block, local_unit

IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def network(**options: object) -> HarmoniousAttentionNetwork:
    return HarmoniousAttentionNetwork(**options).eval()  # type: ignore[arg-type]


def sampled_by_torch(x: Tensor, centres: Tensor, size: tuple[int, int]) -> Tensor:
    """Each region by itself, by the affine grid that equation 7 writes down."""
    images, regions = centres.shape[:2]
    theta = centres.new_zeros(images, regions, 2, 3)
    theta[..., 0, 0], theta[..., 1, 1], theta[..., 2] = 1, 1 / regions, centres
    grid = F.affine_grid(
        theta.flatten(0, 1), [images * regions, x.shape[1], *size], align_corners=False
    )
    return F.grid_sample(x.repeat_interleave(regions, 0), grid, align_corners=False)


@pytest.mark.parametrize("sample", [sample_from_table, sample_by_grid])  # on the CPU, on a GPU
@pytest.mark.parametrize("size", [(24, 28), (5, 3)])
def test_crops_are_grid_samples_with_their_gradients(
    size: tuple[int, int], sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reid_lab.backbone.han.attention.sample_from_table", sample)
    x = torch.randn(3, 2, 20, 8, dtype=torch.float64, requires_grad=True)
    centres = (2 * torch.rand(3, 4, 2, dtype=torch.float64) - 1).requires_grad_()
    ours, theirs = crop(x, centres, size), sampled_by_torch(x, centres, size)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    for one, two in zip(
        torch.autograd.grad((ours * weights).sum(), (x, centres)),
        torch.autograd.grad((theirs * weights).sum(), (x, centres)),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def test_a_crop_at_the_scale_of_the_image_is_a_slice() -> None:
    x = torch.randn(1, 3, 8, 5)
    crops = crop(x, strips(4)[None], (2, 5))
    torch.testing.assert_close(crops, torch.stack(x[0].split(2, dim=1)))


def test_outside_the_image_is_zero() -> None:
    up_and_left = torch.tensor([[[-1.0, -1.0]]])
    crops = crop(torch.ones(1, 1, 4, 6), up_and_left, (4, 6))
    expected = torch.zeros(4, 6)
    expected[2:, 3:] = 1
    torch.testing.assert_close(crops[0, 0], expected)


def test_regions_start_as_the_images_strips() -> None:
    hard = HardAttention(8, regions=4)
    centres = hard(torch.randn(3, 8, 1, 1))
    torch.testing.assert_close(
        centres[..., 1], torch.tensor([-0.75, -0.25, 0.25, 0.75]).expand(3, 4)
    )
    expected = torch.tensor([[0, t / 4, 1, (t + 1) / 4] for t in range(4)])
    torch.testing.assert_close(boxes(centres), expected.expand(3, 4, 4))


@pytest.mark.parametrize(("spatial", "channel"), [(True, True), (True, False), (False, True)])
def test_soft_attention_is_half_to_one_and_varies_as_its_factors_do(
    spatial: bool, channel: bool
) -> None:
    x = torch.rand(2, 32, 5, 3)
    weights = SoftAttention(32, spatial, channel)(x, squeeze(x))
    assert 0.5 <= weights.min() < weights.max() < 1
    assert weights.shape == ((2, 32, 5, 3) if spatial else (2, 32, 1, 1))


def test_layers_of_soft_attention_are_figure_2s() -> None:
    layers = [
        (*layer.weight.shape, layer.stride[0])
        for layer in SoftAttention(64).modules()
        if isinstance(layer, nn.Conv2d)
    ]
    spatial = [(1, 1, 3, 3, 2), (1, 1, 1, 1, 1)]  # 3x3 of stride 2, then a scale
    channel = [(4, 64, 1, 1, 1), (64, 4, 1, 1, 1)]  # r = 16
    assert layers == [*spatial, *channel, (64, 64, 1, 1, 1)]


@pytest.mark.parametrize("side", [8, 7])
@pytest.mark.parametrize("unit", ["depthwise", "inception", "residual"])
def test_units_halve_any_side(unit: str, side: int) -> None:
    x = torch.randn(2, 16, side, 6)
    half = (2, 32, -(-side // 2), 3)
    assert local_unit(unit, 16, 32)(x).shape == half  # type: ignore[arg-type]
    for size in ("small", "medium", "large"):
        assert global_block(unit, size, 16, 32)(x).shape == half  # type: ignore[arg-type]


def test_the_maps_have_the_papers_sizes() -> None:
    han = network()
    sizes: list[tuple[int, ...]] = []
    for level in han.levels:
        for module in (level.block, level.local):
            module.register_forward_hook(lambda _, i, o: sizes.append((*i[0].shape, *o.shape)))
    han(torch.zeros(1, 3, 160, 64))
    assert sizes == [
        (1, 32, 80, 32, 1, 128, 40, 16),
        (1, 128, 40, 16, 1, 256, 20, 8),
        (1, 256, 20, 8, 1, 384, 10, 4),
        (4, 32, 24, 28, 4, 128, 12, 14),
        (4, 128, 12, 14, 4, 256, 6, 7),
        (4, 256, 6, 7, 4, 384, 3, 4),
    ]


@pytest.mark.parametrize("size", [(256, 128), (64, 32), (50, 22)])
def test_other_image_sizes(size: tuple[int, int]) -> None:
    assert [f.shape for f in network(dim=64)(torch.rand(1, 3, *size))] == [(1, 32)] * 2


def without(module: nn.Module, names: str) -> set[str]:
    return {name for name, _ in module.named_parameters() if f".{names}." not in name}


@torch.no_grad()
def test_without_soft_attention_the_block_is_left_as_it_is() -> None:
    full, plain = network(), network(spatial=False, channel=False)
    assert {name for name, _ in plain.named_parameters()} == without(full, "soft")
    level, x = plain.levels[0], torch.randn(2, 32, 8, 6)
    attended, _, weights = level(x)
    assert weights is None
    assert torch.equal(attended, level.block(x))


@torch.no_grad()
@pytest.mark.parametrize(
    ("off", "gone"), [("spatial", "soft.spatial"), ("channel", "soft.channel")]
)
def test_without_one_factor_the_other_is_left(off: str, gone: str) -> None:
    full, partial = network(), network(**{off: False})
    assert {name for name, _ in partial.named_parameters()} == without(full, gone)
    partial.load_state_dict(full.state_dict(), strict=False)
    soft, left, x = full.levels[1].soft, partial.levels[1].soft, torch.rand(2, 256, 6, 4)
    assert soft and soft.spatial and soft.channel and left
    factor = soft.spatial(x) if off == "channel" else soft.channel(squeeze(x))
    expected = soft.blend(factor.expand_as(x)).sigmoid()
    torch.testing.assert_close(left(x, squeeze(x)).expand_as(x), expected)


@torch.no_grad()
def test_without_hard_attention_the_strips_stay() -> None:
    full, fixed = network(), network(hard=False)
    assert {name for name, _ in fixed.named_parameters()} == without(full, "hard")
    fixed.load_state_dict(full.state_dict(), strict=False)
    for one, two in zip(full(IMAGES), fixed(IMAGES), strict=True):
        torch.testing.assert_close(one, two)  # before training, the regions are the strips
    for level in full.levels:
        assert level.hard
        level.hard.fc.bias.add_(0.5)
    (same, moved), (whole, local) = full(IMAGES), fixed(IMAGES)
    torch.testing.assert_close(same, whole)
    assert not torch.allclose(moved, local)


@torch.no_grad()
def test_without_cross_attention_the_streams_see_conv1_alone() -> None:
    han = network(cross_attention=False)
    assert [level.hard is not None for level in han.levels] == [True, False, False]
    x = crop(han.conv1(IMAGES), strips(4).expand(2, -1, -1), (10, 14))
    for level in han.levels:
        x = level.local(x)
    expected = han.local_fc(x.mean((2, 3)).view(2, -1))
    torch.testing.assert_close(han(IMAGES)[1], expected)


@torch.no_grad()
def test_equation_8_adds_the_crop_of_the_levels_input() -> None:
    level = network().levels[1]
    assert level.hard
    x, signature, before = (
        torch.rand(2, 128, 40, 16),
        torch.rand(2, 256, 1, 1),
        torch.rand(8, 128, 12, 14),
    )
    expected = level.local(crop(x, level.hard(signature), (12, 14)) + before)
    torch.testing.assert_close(level.streams(x, signature, before), expected)


@torch.no_grad()
def test_regions_are_normalised_together_or_each_by_itself() -> None:
    pooled, regions = (network(local_norm=norm).levels[1] for norm in ("pooled", "regions"))
    regions.load_state_dict(pooled.state_dict())
    x = torch.rand(6 * 4, 128, 12, 14) + torch.arange(4.0).repeat(6).view(-1, 1, 1, 1)
    torch.testing.assert_close(regions.shared(x), pooled.shared(x), rtol=0, atol=0)
    together, alone = pooled.train().shared(x), regions.train().shared(x)
    assert not torch.allclose(together, alone, atol=0.1)
    for region in range(4):
        expected = pooled.local(x[region::4])
        torch.testing.assert_close(alone[region::4], expected, rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("relu", [True, False])
def test_evaluation_is_convolution_norm_and_relu(relu: bool) -> None:
    unit = ConvNorm(4, 6, 3, stride=2, groups=2, relu=relu)
    nn.init.normal_(unit.norm.weight)
    nn.init.normal_(unit.norm.bias)
    unit(3 + torch.randn(8, 4, 9, 7))  # so that the statistics are not those of the start
    x = torch.randn(2, 4, 9, 7)
    expected = unit.eval().norm(unit.conv(x))
    torch.testing.assert_close(unit(x), expected.relu() if relu else expected)


def test_training_normalises_by_the_batch() -> None:
    unit = ConvNorm(3, 5, 3, relu=False).train()
    images = torch.rand(8, 3, 9, 7)
    maps = unit(images)
    convolved = F.conv2d(images, unit.conv.weight, padding=1)
    mean, var = convolved.mean((0, 2, 3)), convolved.var((0, 2, 3))
    expected = (convolved - mean.view(-1, 1, 1)) / convolved.var((0, 2, 3), False).view(
        -1, 1, 1
    ).sqrt()
    torch.testing.assert_close(maps, expected, atol=1e-3, rtol=1e-3)
    running = unit.norm.running_mean, unit.norm.running_var  # a tenth of the way
    torch.testing.assert_close(running, (0.1 * mean, 0.9 + 0.1 * var), atol=1e-5, rtol=1e-4)


def test_half_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        features = network(dim=64)(IMAGES)
    assert all(f.isfinite().all() for f in features)
