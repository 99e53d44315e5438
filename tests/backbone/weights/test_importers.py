"""Checkpoints of torchreid and fast-reid, converted: the embeddings are those of their networks.

make_golden.py says how golden.npz was made with their code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18, resnet34

from reid_lab.backbone import WeightsError
from reid_lab.backbone.weights import WeightsFile
from reid_lab.backbone.weights.found import Choices, FoundWeights
from reid_lab.backbone.weights.identify import identify
from reid_lab.checkpoint import checkpoint_of, revive
from reid_lab.results.card import ModelCard
from tests.backbone.weights.drawn import drawn_images
from tests.backbone.weights.golden import embeddings_of, networks, state_of
from tests.conftest import Compose

pytestmark = pytest.mark.recipe

SIZES = {"torchreid_hacnn": (160, 64)}
FACTS = {  # network, its classes, its part of the config, what is left over
    "torchreid_osnet_x1_0": ("OSNet x1.0", 751, "backbone.width=1.0", 0),
    "torchreid_osnet_x0_75": ("OSNet x0.75", 751, "backbone.width=0.75", 0),
    "torchreid_osnet_x0_5": ("OSNet x0.5", 751, "backbone.width=0.5", 0),
    "torchreid_osnet_x0_25": ("OSNet x0.25", 751, "backbone.norm=batch", 0),
    "torchreid_osnet_ibn_x1_0": ("OSNet-IBN x1.0", 702, "backbone.norm=ibn", 0),
    "torchreid_osnet_ain_x0_25": ("OSNet-AIN x0.25", 1041, "backbone.norm=ain", 0),
    "torchreid_resnet50": ("ResNet-50", 751, "backbone.last_stride=2", 0),
    "torchreid_resnet50_fc512": ("ResNet-50", 751, "model.fc=512", 0),
    "torchreid_resnet50_ibn_a": ("ResNet-50-IBN", 751, "backbone.ibn=true", 0),
    "torchreid_mobilenetv2_x1_0": ("MobileNetV2 x1.0", 751, "first_expansion=true", 0),
    "torchreid_hacnn": ("HACNN", 751, "model.resampling=torchreid", 2),
    "fastreid_r50": ("ResNet-50", 751, "backbone.stem_pool=ceil", 0),
    "fastreid_r50_ibn": ("ResNet-50-IBN", 751, "backbone.ibn=true", 0),
    "fastreid_r50_dim": ("ResNet-50", 751, "model.dim=256 model.pool=gem", 0),
}
CHEAP = "torchreid_osnet_x0_25"


def found_in(state: dict[str, Tensor], **choices: Any) -> FoundWeights:
    return identify(WeightsFile(Path("weights.pth"), state), Choices(**choices))


def converted(state: dict[str, Tensor], **choices: Any) -> dict[str, Any]:
    file = WeightsFile(Path("weights.pth"), state)
    return checkpoint_of(file, identify(file, Choices(**choices)), ModelCard())


def test_every_golden_network_has_facts() -> None:
    assert set(networks()) == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_networks_are_identified_by_their_keys(name: str) -> None:
    network, classes, words, left = FACTS[name]
    shapes = networks()[name]
    # shapes alone: no numbers are needed
    found = found_in({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert found.toolbox == {"t": "torchreid", "f": "fast-reid"}[name[0]]
    assert (found.network, found.classes) == (network, classes)
    assert words in found.overrides
    assert len(found.left_over(shapes)) == left


@pytest.mark.parametrize("name", [*FACTS, "ResNet-18", "ResNet-34"])
def test_the_printed_config_is_one(name: str, composed: Compose) -> None:
    if name in FACTS:
        shapes = networks()[name]
    else:
        with torch.device("meta"):
            network = resnet18() if name == "ResNet-18" else resnet34()
        shapes = {f"backbone.{k}": tuple(v.shape) for k, v in network.state_dict().items()}
        shapes["heads.bottleneck.0.running_mean"] = (512,)  # of fast-reid
    found = found_in({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert found.model is not None and found.network == FACTS.get(name, [name])[0]
    cfg = composed(*found.overrides.split())
    wanted, part = found.model.get("backbone"), "backbone"
    if wanted is None:
        wanted, part = found.model, "model"
    plain = {k: v for k, v in wanted.items() if not isinstance(v, dict) and k != "identities"}
    assert {key: cfg[part][key] for key in plain} == plain


@torch.no_grad()
@pytest.mark.parametrize("name", FACTS)
def test_embeddings_are_those_of_the_toolbox(name: str) -> None:
    model = revive(converted(state_of(name)), "weights.pth")
    expected = embeddings_of(name)
    ours = list(model(drawn_images(*SIZES.get(name, (64, 32)))).values())[-1]
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_hacnn_differs_without_its_resampling() -> None:
    """So that the test above can fail."""
    state = converted(state_of("torchreid_hacnn"))
    state["hyper_parameters"]["model"]["resampling"] = "once"
    ours = revive(state, "weights.pth")(drawn_images(160, 64))["joint"]
    expected = embeddings_of("torchreid_hacnn")
    assert (ours - expected).abs().max() > 1e-3 * expected.abs().max()


def test_a_classifier_that_was_not_kept() -> None:
    state = {k: v for k, v in state_of(CHEAP).items() if not k.startswith("classifier.")}
    found = found_in(state)
    assert found.classes is None
    model = revive(converted(state), "weights.pth")
    assert model.classifier.weight.shape == (1, 512)


@torch.no_grad()
def test_files_of_before_batches_were_counted() -> None:
    state = {k: v for k, v in state_of(CHEAP).items() if not k.endswith("num_batches_tracked")}
    model = revive(converted(state), "weights.pth")
    expected = embeddings_of(CHEAP)
    assert (model(drawn_images(64, 32))["pool"] - expected).abs().max() < 1e-4


def test_choices() -> None:
    state = converted(state_of(CHEAP), image=(384, 128))
    assert state["hyper_parameters"]["image"] == [384, 128]
    shapes = {k: torch.empty(s, device="meta") for k, s in networks()["fastreid_r50"].items()}
    found = found_in(shapes, last_stride=2)
    assert found.model is not None
    assert found.model["backbone"]["last_stride"] == 2
    assert "backbone.last_stride=2" in found.overrides


def test_files_that_lack_a_part_or_are_of_another_size() -> None:
    state = state_of(CHEAP)
    lost = {key: value for key, value in state.items() if not key.startswith("conv5.")}
    with pytest.raises(WeightsError, match=r"torchreid's OSNet x0.25, but lacks 6 of its tensors"):
        converted(lost)
    odd = {**state, "conv5.conv.weight": torch.zeros(3, 3, 1, 1)}
    with pytest.raises(WeightsError, match=r"another shape of 1 .*stages\.stage4\.0\.weight"):
        converted(odd)


@pytest.mark.parametrize(
    ("key", "shape", "reason"),
    [
        ("backbone.NL_2.0.g.weight", (1, 512, 1, 1), "ResNet-50 with non-local blocks cannot be"),
        ("backbone.layer1.0.se.fc.0.weight", (16, 256), "with squeeze-and-excitation cannot be"),
        ("heads.b1.weight", (1,), "MGN"),
    ],
)
def test_networks_that_are_not_here(key: str, shape: tuple[int, ...], reason: str) -> None:
    shapes = {**networks()["fastreid_r50"], key: shape}
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    with pytest.raises(WeightsError, match=reason):
        converted(state)


def test_old_names_of_fastreid() -> None:
    """Versions 0.x named the neck and the classifier differently."""
    names = {"heads.bottleneck.0.": "heads.bnneck.", "heads.weight": "heads.classifier.weight"}
    shapes = dict(networks()["fastreid_r50"])
    for new, old in names.items():
        shapes = {key.replace(new, old): shape for key, shape in shapes.items()}
    found = found_in({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    assert not found.left_over(shapes)
    assert found.names["heads.bnneck.running_mean"] == "necks.stage4.running_mean"
