from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_lab.backbone import ResNet
from reid_lab.backbone.resnet import MixedNorm


@torch.no_grad()
def test_instance_norm_on_the_first_half_of_the_channels() -> None:
    torch.manual_seed(0)
    norm, x = MixedNorm(6).eval(), 3 + 2 * torch.randn(2, 6, 8, 4)
    norm.BN.running_mean += 1
    expected = torch.cat([nn.InstanceNorm2d(3)(x[:, :3]), (x[:, 3:] - 1) / (1 + 1e-5) ** 0.5], 1)
    torch.testing.assert_close(norm(x), expected)


def test_the_last_stage_has_no_instance_norm() -> None:
    with torch.device("meta"):
        network = ResNet(50, ibn=True)
    stages = [any(isinstance(m, MixedNorm) for m in s.modules()) for s in network.stages.values()]
    assert stages == [True, True, True, False]
    with pytest.raises(ValueError, match=r"ibn=true needs depth=50, given depth=18"):
        ResNet(18, ibn=True)


def test_the_ceil_pool_keeps_the_size_of_the_maps() -> None:
    x = torch.randn(1, 3, 64, 32)
    padded, ceil = (ResNet(18, stem_pool=pool).stages["stage1"][0] for pool in ("padded", "ceil"))
    ceil.load_state_dict(padded.state_dict())
    assert padded(x).shape == ceil(x).shape == (1, 64, 16, 8)
    assert not torch.equal(padded(x), ceil(x))
