"""The counts of the papers' readings, as facts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_lab.backbone import DenseNet201, MobileNet, MobileNetV2, ResNet, ShuffleNet
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import Classifier, DaRe, ReidModule, SEResNets
from reid_lab.model.base import State

pytestmark = pytest.mark.recipe

LOSS = BatchHardTriplet()


def millions(model: ReidModule) -> list[float]:
    return [round(count / 1e6, 1) for count in count_exits(model, 256, 128).values()]


def parameters(model: nn.Module) -> float:
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 2)


def test_dare_resnet50() -> None:
    model = DaRe(ResNet(50), LOSS)
    assert millions(model) == [513.7, 1185.4, 2142.9, 2673.6, 2673.6]
    counts = count_exits(model, 256, 128)
    assert counts["fusion"] - counts["stage4"] == 512
    assert parameters(model) == 27.98


def test_dare_densenet201() -> None:
    model = DaRe(DenseNet201(), LOSS)
    assert millions(model)[:4] == [756.9, 1290.3, 2378.6, 2806.4]
    assert parameters(model) == 23.22


def test_se_resnets() -> None:
    model = SEResNets({f"resnet{d}": ResNet(d) for d in (18, 34, 50)}, LOSS)  # type: ignore[arg-type]
    assert [round(c / 1e9, 3) for c in count_exits(model, 256, 128).values()] == [
        1.185,
        3.578,
        6.249,
    ]


@pytest.mark.parametrize(
    ("alpha", "at_128", "params"),
    [(1.0, 185.4, 4.232), (0.75, 106.0, 2.586), (0.5, 48.65, 1.332), (0.25, 13.31, 0.470)],
)
def test_mobilenets(alpha: float, at_128: float, params: float) -> None:
    model = Classifier(MobileNet(alpha), identities=1000)
    assert count_exits(model, 128, 128)["pool"] / 1e6 == pytest.approx(at_128, rel=5e-4)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(params, abs=1e-3)
    if alpha == 1:
        features = count_exits(model, 224, 224)["pool"]
        assert round((features + model.classifier.weight.numel()) / 1e6, 1) == 568.7


def test_shufflenet() -> None:
    model = Classifier(ShuffleNet(), identities=1000)
    features = count_exits(model, 224, 224)["pool"]
    assert round((features + model.classifier.weight.numel()) / 1e6) == 145


def test_mobilenetv2() -> None:
    """300 M and 3.4 M in the paper, of which torchvision's table has 0.30 G and 3,504,872."""
    model = Classifier(MobileNetV2(), identities=1000)
    features = count_exits(model, 224, 224)["pool"]
    assert round((features + model.classifier.weight.numel()) / 1e6) == 301
    assert sum(p.numel() for p in model.parameters()) == 3_504_872


def test_resnet50_at_224() -> None:
    class OneExit(SEResNets):
        def step(self, exit: str, state: State) -> tuple[State, torch.Tensor]:
            return state, self.networks[exit][0](*state).mean((2, 3))

    model = OneExit({"resnet50": ResNet(50)}, LOSS)
    assert round(count_exits(model, 224, 224)["resnet50"] / 1e9, 3) == 4.087
    assert parameters(model.networks["resnet50"][0]) == 23.51


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_no_trace(training: bool) -> None:
    model = DaRe(ResNet(18), LOSS).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_exits(model, 64, 32)
    assert model.training == training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_weights_tell_the_device() -> None:
    """Lightning names a module's device before it moves the weights there."""
    model = Classifier(MobileNet(0.25), identities=3)
    expected = count_exits(model, 64, 32)
    model._device = torch.device("meta")
    assert count_exits(model, 64, 32) == expected
    assert list(exit_dims(model, 64, 32)) == list(expected)
