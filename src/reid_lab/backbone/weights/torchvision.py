"""Import ImageNet classifiers of torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reid_lab.backbone.weights.found import (
    Choices,
    FoundWeights,
    Shapes,
    behind,
    block_of,
    on_classifier,
    renamed,
)
from reid_lab.backbone.weights.resnet import (
    CHANNELS,
    is_resnet,
    resnet_config,
    resnet_key,
    resnet_name,
)

TOOLBOX = "torchvision"
LICENCE = "BSD-3-Clause (torchvision's code)"


@dataclass(frozen=True)
class TorchvisionNetwork:
    """A supported network of torchvision: how it is recognised and converted.

    Attributes:
        name: torchvision's name.
        key: a tensor with the shape `shape`, by which it is recognised.
        backbone: our class; `group` is the choice of the config group.
        dim: channels of the last stage.
        head: the classifier's name.
        rename: torchvision's key -> our backbone's; None for the classifier.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    backbone: str
    group: str
    dim: int
    head: str
    rename: Callable[[str], str | None]


def find(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    """The torchvision network of a state dict; None for other toolboxes."""
    if is_resnet(shapes):
        return _resnet(shapes, choices)
    for network in NETWORKS:
        if shapes.get(network.key) == network.shape:
            found = _found(network.name, shapes, choices, network.rename)
            backbone = {"_target_": f"reid_lab.backbone.{network.backbone}"}
            words = f"backbone={network.group}"
            return on_classifier(found, backbone, words, shapes, network.head, network.dim)
    return None


def _found(
    name: str, shapes: Shapes, choices: Choices, rename: Callable[[str], str | None]
) -> FoundWeights:
    names = renamed(shapes, lambda key: behind(rename(key)))
    image = choices.image or (256, 128)
    return FoundWeights(TOOLBOX, name, licence=LICENCE, image=image, names=names)


def _resnet(shapes: Shapes, choices: Choices) -> FoundWeights:
    name, backbone = resnet_name(shapes), resnet_config(shapes)
    if backbone is None:
        return FoundWeights(TOOLBOX, name, licence=LICENCE, reason="no such ResNet here")
    depth, words = backbone["depth"], f"backbone=resnet{backbone['depth']}"
    if choices.last_stride:
        backbone["last_stride"] = choices.last_stride
        words += f" backbone.last_stride={choices.last_stride}"
    words += " backbone.ibn=true" if backbone.get("ibn") else ""
    found = _found(name, shapes, choices, resnet_key)
    return on_classifier(found, backbone, words, shapes, "fc", CHANNELS[depth])


def mobilenetv2_key(key: str) -> str | None:
    from reid_lab.backbone.mobilenetv2 import of_torchvision

    return of_torchvision(key)


def shufflenet_key(key: str) -> str | None:
    """torchvision's key of ShuffleNet v2 -> that of `reid_lab.backbone.ShuffleNet`."""
    return _by_start(
        key,
        {
            "conv1.": "stage1.0.",
            "stage2.": "stage1.2.",
            "stage3.": "stage2.",
            "stage4.": "stage3.",
            "conv5.": "stage4.",
        },
    )


def densenet_key(key: str) -> str | None:
    """torchvision's key of DenseNet-201 -> that of `reid_lab.backbone.DenseNet201`."""
    from reid_lab.backbone.densenet import without_dot

    starts = {"features.conv0.": "stage1.0.0.", "features.norm0.": "stage1.0.1."}
    for stage in range(1, 5):
        starts[f"features.denseblock{stage}."] = f"stage{stage}.1."
        starts[f"features.transition{stage}.norm."] = f"stage{stage}.2.0."
        starts[f"features.transition{stage}.conv."] = f"stage{stage + 1}.0.0."
    return _by_start(without_dot(key), {**starts, "features.norm5.": "stage4.2.0."})


def _by_start(key: str, starts: Mapping[str, str]) -> str | None:
    found = [(theirs, ours) for theirs, ours in starts.items() if key.startswith(theirs)]
    return f"stages.{found[0][1]}{key.removeprefix(found[0][0])}" if found else None


NETWORKS = (
    TorchvisionNetwork(
        "MobileNetV2",
        "features.18.0.weight",
        (1280, 320, 1, 1),
        "MobileNetV2",
        "mobilenetv2",
        1280,
        "classifier.1",
        mobilenetv2_key,
    ),
    TorchvisionNetwork(
        "DenseNet-201",
        "features.norm5.weight",
        (1920,),
        "DenseNet201",
        "densenet201",
        1920,
        "classifier",
        densenet_key,
    ),
    TorchvisionNetwork(
        "ShuffleNet v2 x1.0",
        "stage2.0.branch1.2.weight",
        (58, 24, 1, 1),
        "ShuffleNet",
        "shufflenet",
        1024,
        "fc",
        shufflenet_key,
    ),
)

# blocks of each group of timm's mobilenetv2_100, which torchvision numbers from 1 to 17
GROUPS = (1, 2, 3, 4, 3, 3, 1)


def timm_mobilenetv2_key(key: str) -> str | None:
    """torchvision's key of MobileNetV2 -> timm's key of mobilenetv2_100."""
    for start, theirs in (
        ("features.0.0.", "conv_stem."),
        ("features.0.1.", "bn1."),
        ("features.18.0.", "conv_head."),
        ("features.18.1.", "bn2."),
        ("classifier.1.", "classifier."),
    ):
        if key.startswith(start):
            return theirs + key.removeprefix(start)
    match = re.match(r"features\.(\d+)\.conv\.(\d(?:\.\d(?=\.))?)\.", key)
    if match is None:
        return None
    group, block = block_of(int(match[1]) - 1, GROUPS)
    first = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    later = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl"}
    part = (first if group == 0 else {**later, "3": "bn3"})[match[2]]
    return f"blocks.{group}.{block}.{part}.{key[match.end() :]}"
