"""AlexNet, VGG-16 and GoogLeNet are torchvision's, cut into stages."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from reid_lab.backbone import Classic
from reid_lab.backbone.classic import googlenet
from reid_lab.cost.mul_adds import count_exits
from reid_lab.model import Classifier
from tests.methods import awake

SIZE = (96, 64)


@torch.no_grad()
@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_maps_are_torchvisions(name: str) -> None:
    network = models.get_model(name, weights=None).eval()
    backbone = Classic(name).eval()  # type: ignore[arg-type]
    convolutions = [p for k, p in network.state_dict().items() if k.startswith("features")]
    own = dict(zip(backbone.state_dict(), convolutions, strict=True))
    backbone.load_state_dict(own)
    images = torch.randn(2, 3, *SIZE)
    assert torch.equal(network.features[-1](backbone(images)), network.features(images))


@torch.no_grad()
def test_googlenet_takes_signed_pixels_as_its_weights_do() -> None:
    network = awake(googlenet()).eval()  # type: ignore[arg-type, type-var]
    network.transform_input = True  # type: ignore[assignment]
    found = []
    network.get_submodule("inception5b").register_forward_hook(lambda *a: found.append(a[2]))
    images = torch.randn(2, 3, *SIZE)
    network(images)
    backbone = Classic("googlenet").eval()
    own = [t for k, t in network.state_dict().items() if k.startswith(("conv", "inception"))]
    backbone.load_state_dict(dict(zip(backbone.state_dict(), own, strict=True)))
    torch.testing.assert_close(backbone(images), found[0])


@pytest.mark.parametrize(
    ("name", "mul_adds"),
    # table 13 has 0.725, 15.5 and 1.57 G with the classifiers, which are 58.6, 123.6 and 1.0 M
    [("alexnet", 0.656e9), ("vgg16", 15.347e9), ("googlenet", 1.497e9)],
)
def test_counts_beside_table_13(name: str, mul_adds: float) -> None:
    with torch.device("meta"):
        model = Classifier(Classic(name), identities=2).eval()  # type: ignore[arg-type]
    (count,) = count_exits(model, 224, 224).values()
    assert count == pytest.approx(mul_adds, rel=2e-3)
