from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from reid_lab.backbone import Backbone, DenseNet201, ResNet, SmallResNet, WeightsError


@pytest.mark.parametrize(
    "backbone",
    [ResNet(18), ResNet(50), DenseNet201(), SmallResNet(8)],
    ids=lambda b: type(b).__name__,
)
def test_stages_halve_the_resolution_and_tell_their_channels(backbone: Backbone) -> None:
    x = torch.randn(2, 3, 128, 64)
    for s, (stage, channels) in enumerate(
        zip(backbone.stages.values(), backbone.channels, strict=True)
    ):
        x = stage(x)
        assert x.shape == (2, channels, 32 >> s, 16 >> s)
    assert backbone.names == ("stage1", "stage2", "stage3", "stage4")


@torch.no_grad()
def test_stages_are_torchvisions_network(tmp_path: Path) -> None:
    x = torch.randn(1, 3, 64, 64)
    resnet = models.resnet18().eval()
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    ours = ResNet(18, weights=tmp_path / "resnet18.pth").eval()
    torch.testing.assert_close(
        ours(x).mean((2, 3)) @ resnet.fc.weight.T + resnet.fc.bias, resnet(x)
    )
    dense = models.densenet201().eval()
    torch.save(dense.state_dict(), tmp_path / "densenet201.pth")
    ours_dense = DenseNet201(weights=tmp_path / "densenet201.pth").eval()
    head = dense.classifier
    torch.testing.assert_close(ours_dense(x).mean((2, 3)) @ head.weight.T + head.bias, dense(x))


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="no such file; allowed are imagenet, null"):
        ResNet(18, weights=tmp_path / "none.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="no state dict"):
        ResNet(18, weights=tmp_path / "junk.pth")
    torch.save(models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(WeightsError, match="of another network"):
        ResNet(18, weights=tmp_path / "resnet34.pth")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(WeightsError, match=r"resnet18.*\.pth where .* weights=null"):
        ResNet(18, weights="imagenet")
