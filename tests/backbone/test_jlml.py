from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_lab.backbone.jlml import BottleneckV1, JLMLResNet39
from reid_lab.errors import UserError


@torch.no_grad()
def test_sizes_are_table_1() -> None:
    network = JLMLResNet39().eval()
    shapes: dict[str, list[int]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.Linear | BottleneckV1):
            module.register_forward_hook(
                lambda _m, _i, out, name=name: shapes.update({name: list(out.shape[1:])})
            )
    maps = network.stem(torch.zeros(1, 3, 224, 224))
    network.global_branch(maps), network.local_branch(maps)
    assert shapes["stem.0"] == [32, 112, 112]
    assert shapes["global_branch.pool"] == [32, 56, 56]
    levels = "global_branch.levels.{}", "local_branch.streams.3.{}"
    ends = [[shapes[level.format(3 * i + 2)] for i in range(4)] for level in levels]
    assert ends[0] == [[64, 56, 56], [128, 28, 28], [256, 14, 14], [512, 7, 7]]
    assert ends[1] == [[32, 28, 56], [64, 14, 28], [128, 7, 14], [256, 4, 7]]
    assert shapes["global_branch.fc"] == shapes["local_branch.fc"] == [512]


def test_depth_is_39_on_either_path() -> None:
    network = JLMLResNet39()
    for branch in (network.global_branch.levels, network.local_branch.streams[0]):
        main = [
            name
            for name, module in branch.named_modules()
            if isinstance(module, nn.Conv2d) and "downsample" not in name
        ]
        assert 1 + len(main) + 1 + 1 == 39  # conv1, both fc layers of table 1


@torch.no_grad()
def test_a_stream_sees_its_strip_alone() -> None:
    branch = JLMLResNet39(parts=4, dim=16).eval().local_branch
    maps = torch.rand(2, 32, 32, 16)
    other = maps.clone()
    other[:, :, 8:16] += 1  # the second strip
    seen: list[list[torch.Tensor]] = []
    for given in (maps, other):
        seen.append([])
        hooks = [
            stream.register_forward_hook(lambda _m, _i, out: seen[-1].append(out))
            for stream in branch.streams
        ]
        branch(given)
        for hook in hooks:
            hook.remove()
    assert [torch.equal(*pair) for pair in zip(*seen, strict=True)] == [True, False, True, True]


@torch.no_grad()
def test_strips_are_pooled_as_the_docstring_says() -> None:
    """Row r of a pooled strip is the maximum of rows r and r + 1, the last of itself."""
    branch, got = JLMLResNet39(parts=2, dim=4).eval().local_branch, []
    branch.streams[1].register_forward_pre_hook(lambda _m, inputs: got.append(inputs[0]))
    maps = torch.rand(1, 32, 6, 8)
    branch(maps)
    strip = maps[:, :, 3:]
    wide = torch.maximum(strip[..., ::2], strip[..., 1::2])
    below = torch.cat([wide[:, :, 1:], wide[:, :, -1:]], 2)
    assert torch.equal(got[0], torch.maximum(wide, below))


@pytest.mark.parametrize("parts", [1, 3, 4, 7])
def test_any_number_of_strips(parts: int) -> None:
    branch = JLMLResNet39(parts, 32).eval().local_branch
    assert branch(torch.rand(1, 32, 33, 16)).shape == (1, 16)
    assert len(branch.streams) == parts
    if parts > 1:
        with pytest.raises(UserError, match=rf"at least {2 * parts - 1} rows .*fewer parts"):
            branch(torch.rand(1, 32, parts - 1, 16))


def test_an_odd_dimension() -> None:
    with pytest.raises(ValueError, match="dim=7: .* even"):
        JLMLResNet39(dim=7)


def test_convolutions_start_as_he_et_al() -> None:
    """Variance 2 / (outputs * kernel area), so that gradients keep theirs through ReLUs."""
    torch.manual_seed(0)
    layers = [m for m in JLMLResNet39(2, 64).modules() if isinstance(m, nn.Conv2d)]
    for layer in layers:
        expected = (2 / (layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1])) ** 0.5
        error = 5 / (2 * layer.weight.numel()) ** 0.5  # five standard errors
        assert layer.weight.std().item() == pytest.approx(expected, rel=error)


@pytest.mark.parametrize(
    ("inputs", "width", "stride"), [(8, 4, 1), (8, 4, 2), (4, 4, 1), (4, 4, 2)]
)
def test_a_unit_projects_where_its_shape_changes(inputs: int, width: int, stride: int) -> None:
    unit = BottleneckV1(inputs, width, stride)
    assert unit(torch.rand(2, inputs, 8, 6)).shape == (2, 2 * width, 8 // stride, 6 // stride)
    assert (unit.downsample is None) == (stride == 1 and inputs == 2 * width)
    strides = [layer.stride[0] for layer in (unit.conv1, unit.conv2, unit.conv3)]
    assert strides == [stride, 1, 1]
