from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torchvision import models

from reid_lab.backbone import (
    Backbone,
    DenseNet201,
    MobileNet,
    MobileNetV2,
    ResNet,
    ShuffleNet,
    SmallResNet,
    WeightsError,
)
from reid_lab.model import Classifier
from tests.methods import NETWORKS, backbone


@pytest.mark.parametrize(
    "network",
    [ResNet(18), ResNet(50), DenseNet201(), SmallResNet(8)],
    ids=lambda b: type(b).__name__,
)
def test_stages_halve_the_resolution(network: Backbone) -> None:
    x = torch.randn(2, 3, 128, 64)
    for s, (stage, channels) in enumerate(
        zip(network.stages.values(), network.channels, strict=True)
    ):
        x = stage(x)
        assert x.shape == (2, channels, 32 >> s, 16 >> s)
    assert network.names == ("stage1", "stage2", "stage3", "stage4")


@pytest.mark.recipe
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
    shuffle = models.shufflenet_v2_x1_0().eval()
    torch.save(shuffle.state_dict(), tmp_path / "shufflenet.pth")
    ours_shuffle = ShuffleNet(weights=tmp_path / "shufflenet.pth").eval()
    expected = shuffle.fc(ours_shuffle(x).mean((2, 3)))
    torch.testing.assert_close(expected, shuffle(x))


@torch.no_grad()
def test_densenet_takes_the_file_as_published(tmp_path: Path) -> None:
    """It has a dot before a layer's number, and no counters of batches."""
    dense = models.densenet201().eval()
    old = {
        re.sub(r"(denselayer\d+)\.(norm|conv)(\d)", r"\1.\2.\3", key): value
        for key, value in dense.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet201-c1103571.pth")
    ours = DenseNet201(weights=tmp_path / "densenet201-c1103571.pth").eval()
    x, head = torch.randn(1, 3, 64, 64), dense.classifier
    torch.testing.assert_close(ours(x).mean((2, 3)) @ head.weight.T + head.bias, dense(x))


@pytest.mark.recipe
@pytest.mark.parametrize("whole", [True, False], ids=["checkpoint", "state dict"])
@pytest.mark.parametrize("name", NETWORKS)
def test_our_own_checkpoints_are_a_start(tmp_path: Path, name: str, whole: bool) -> None:
    """A checkpoint of a method with this backbone, or of the backbone alone, can be loaded."""
    network, path = backbone(name), tmp_path / "last.ckpt"
    if "weights" not in inspect.signature(type(network)).parameters:
        pytest.skip("is always trained from scratch")
    state = Classifier(network, 3).state_dict() if whole else network.state_dict()
    torch.save({"state_dict": state, "epoch": 1} if whole else state, path)
    started = backbone(name, weights=path).state_dict()
    assert all(torch.equal(started[key], v) for key, v in network.state_dict().items())


def test_a_checkpoint_of_another_backbone(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": Classifier(MobileNet(0.25), 3).state_dict()}, path)
    with pytest.raises(
        WeightsError, match=r"(?s)size mismatch.*; allowed are null .* of ours"
    ) as e:
        MobileNet(0.5, weights=path)
    assert "torchvision" not in str(e.value)  # it has no such network
    with pytest.raises(WeightsError, match=r"missing .*; allowed are imagenet.*torchvision's"):
        ResNet(18, weights=path)
    torch.save(models.resnet18().state_dict(), path)
    with pytest.raises(WeightsError, match=r"unexpected \['conv1\.weight.*allowed are null"):
        MobileNet(0.25, weights=path)
    with pytest.raises(WeightsError, match="none are published for this backbone; allowed are nu"):
        MobileNet(weights="imagenet")


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="no such file; allowed are imagenet, null"):
        ResNet(18, weights=tmp_path / "none.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="no state dict"):
        ResNet(18, weights=tmp_path / "junk.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"(?s)no state dict .*list.*; allowed are imagenet"):
        ResNet(18, weights=tmp_path / "list.pth")
    torch.save(models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(WeightsError, match="of another network"):
        ResNet(18, weights=tmp_path / "resnet34.pth")

    torch.save(models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"of another network; missing \['.*\.2\."):
        ResNet(34, weights=tmp_path / "resnet18.pth")  # it has fewer blocks

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(WeightsError, match=r"resnet18.*\.pth where .* backbone\.weights=null"):
        ResNet(18, weights="imagenet")


def test_a_last_stride_of_1_doubles_the_maps_of_mobilenetv2() -> None:
    coarse, fine = MobileNetV2().eval(), MobileNetV2(last_stride=1).eval()
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 128, 64)
    shapes = {
        stride: [tuple(maps.shape[2:]) for maps in run(network, image)]
        for stride, network in ((2, coarse), (1, fine))
    }
    assert shapes[2] == [(32, 16), (16, 8), (8, 4), (4, 2)]
    assert shapes[1] == [(32, 16), (16, 8), (8, 4), (8, 4)]


def run(network: Backbone, x: torch.Tensor) -> Iterator[torch.Tensor]:
    for stage in network.stages.values():
        x = stage(x)
        yield x


@pytest.mark.parametrize("width", [2, 4, 8])
def test_a_narrow_shortcut_is_a_strided_convolution(width: int) -> None:
    conv = SmallResNet(width).stages["stage2"].downsample[0]  # type: ignore[union-attr,index]
    x = torch.randn(3, width, 6, 4)
    rows = torch.autograd.grad(conv(x).square().sum(), conv.weight)
    strided = F.conv2d(x, conv.weight, stride=2)
    torch.testing.assert_close(conv(x), strided)
    # summed by hand: oneDNN's own backward pass is what is avoided
    expected = torch.einsum("nohw,nihw->oi", 2 * strided.detach(), x[..., ::2, ::2])
    torch.testing.assert_close(rows[0][..., 0, 0], expected)
