"""Import ImageNet classifiers of torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from reid_lab.backbone.weights.found import (
    Choices,
    FoundWeights,
    Shapes,
    behind,
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
Named = tuple[str, dict[str, Any] | None, str, int, str, Callable[[str], str | None]]


def find(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    """The torchvision network of a state dict; None if it is of another toolbox."""
    named = _resnet(shapes, choices) or _mobilenet(shapes)
    if named is None:
        return None
    network, backbone, words, dim, head, rename = named
    if backbone is None:
        return FoundWeights(TOOLBOX, network, licence=LICENCE, reason="no such ResNet here")
    names = renamed(shapes, lambda key: behind(rename(key)))
    image = choices.image or (256, 128)
    found = FoundWeights(TOOLBOX, network, licence=LICENCE, image=image, names=names)
    return on_classifier(found, backbone, words, shapes, head, dim)


def _resnet(shapes: Shapes, choices: Choices) -> Named | None:
    if not is_resnet(shapes):
        return None
    backbone = resnet_config(shapes)
    depth = backbone["depth"] if backbone else 50
    words = f"backbone=resnet{depth}"
    if backbone and choices.last_stride:
        backbone["last_stride"] = choices.last_stride
        words += f" backbone.last_stride={choices.last_stride}"
    if backbone and backbone.get("ibn"):
        words += " backbone.ibn=true"
    return resnet_name(shapes), backbone, words, CHANNELS[depth], "fc", resnet_key


def _mobilenet(shapes: Shapes) -> Named | None:
    if shapes.get("features.18.0.weight") != (1280, 320, 1, 1):
        return None
    from reid_lab.backbone.mobilenetv2 import of_torchvision

    backbone = {"_target_": "reid_lab.backbone.MobileNetV2"}
    return "MobileNetV2", backbone, "backbone=mobilenetv2", 1280, "classifier.1", of_torchvision


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
    place, group = int(match[1]) - 1, 0
    while place >= GROUPS[group]:
        place, group = place - GROUPS[group], group + 1
    first = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    later = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl"}
    part = (first if group == 0 else {**later, "3": "bn3"})[match[2]]
    return f"blocks.{group}.{place}.{part}.{key[match.end() :]}"
