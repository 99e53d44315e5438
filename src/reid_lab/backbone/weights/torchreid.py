"""Import checkpoints of torchreid (KaiyangZhou/deep-person-reid)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from reid_lab.backbone.osnet import Norm, from_torchreid
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

TOOLBOX = "torchreid"
LICENCE = "MIT (torchreid's code)"
WIDTHS = {64: 1.0, 48: 0.75, 32: 0.5, 16: 0.25}  # channels of the stem -> width of OSNet
Renames = list[tuple[str, str | Callable[[re.Match[str]], str]]]
HACNN: Renames = [  # torchreid's name of a part -> ours, tried in this order
    (r"^conv\.", "network.conv1."),
    (r"^inception(\d)\.", lambda m: f"network.levels.{int(m[1]) - 1}.block."),
    (r"^local_conv(\d)\.", lambda m: f"network.levels.{int(m[1]) - 1}.local."),
    (r"^ha(\d)\.hard_attn\.fc\.", lambda m: f"network.levels.{int(m[1]) - 1}.hard.fc."),
    (r"^ha(\d)\.soft_attn\.", lambda m: f"network.levels.{int(m[1]) - 1}.soft."),
    (r"soft\.spatial_attn\.conv1\.", "soft.spatial.conv."),
    (r"soft\.spatial_attn\.conv2\.", "soft.spatial.scale."),
    (r"soft\.channel_attn\.conv(\d)\.", lambda m: f"soft.channel.{int(m[1]) - 1}."),
    (r"soft\.conv\.", "soft.blend."),
    (r"\.stream(\d)\.", lambda m: f".streams.{int(m[1]) - 1}."),
    (r"\.bn\.", ".norm."),
    (r"^fc_(global|local)\.", r"network.\1_fc."),
    (r"^classifier_global\.", "classifiers.0."),
    (r"^classifier_local\.", "classifiers.1."),
]
MOBILENET: Renames = [  # torchreid's name of a part -> torchvision's behind `features.`
    (r"^conv1\.", "0."),
    (r"^conv9\.", "18."),
    (r"^conv2\.0\.", "1."),
]
BLOCKS = {3: 2, 4: 4, 5: 7, 6: 11, 7: 14, 8: 17}  # convN -> its first block in torchvision


def find(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    """The torchreid network of a state dict; None for other toolboxes."""
    for network in (_hacnn, _osnet, _mobilenet, _resnet):
        if found := network(shapes, choices):
            return found
    return None


def _osnet(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    stem = shapes.get("conv1.conv.weight")
    if stem is None or "conv2.0.gate.fc1.weight" not in shapes:
        return None
    norm: Norm = "batch"
    if "conv1.bn.running_mean" not in shapes:  # instance norm has none
        norm = "ain" if "conv2.0.conv2.0.layers.0.conv1.weight" in shapes else "ibn"
    name = {"batch": "OSNet", "ibn": "OSNet-IBN", "ain": "OSNet-AIN"}[norm]
    width = WIDTHS.get(stem[0])
    if width is None:
        reason = f"{stem[0]} channels of the stem; known: {', '.join(map(str, WIDTHS))}"
        return FoundWeights(TOOLBOX, name, licence=LICENCE, reason=reason)
    backbone = {"_target_": "reid_lab.backbone.OSNet", "width": width, "norm": norm}
    names = renamed(shapes, lambda key: _osnet_key(key, norm))
    words = f"backbone=osnet backbone.width={width} backbone.norm={norm}"
    return _classifier(shapes, f"{name} x{width}", backbone, names, words, 512, choices)


def _osnet_key(key: str, norm: Norm) -> str | None:
    ours = from_torchreid(key, norm)
    return behind(ours) if ours.startswith("stages.") else None


def _resnet(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    own = "classifier.weight" in shapes or "fc.0.weight" in shapes  # torchvision has fc.weight
    if not is_resnet(shapes) or not own:
        return None
    name, backbone = resnet_name(shapes), resnet_config(shapes)
    if backbone is None:
        return FoundWeights(TOOLBOX, name, licence=LICENCE, reason="no such ResNet here")
    stride = choices.last_stride or (1 if "fc.0.weight" in shapes else 2)
    note = f"last stride {stride}, torchreid's; no file records it (--last-stride)"
    backbone["last_stride"] = stride
    names = renamed(shapes, lambda key: behind(resnet_key(key)))
    words = f"backbone=resnet{backbone['depth']} backbone.last_stride={stride}"
    words += " backbone.ibn=true" if backbone.get("ibn") else ""
    dim = CHANNELS[backbone["depth"]]
    return _classifier(shapes, name, backbone, names, words, dim, choices, note)


def _mobilenet(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    if "conv2.0.dwconv2.conv.weight" not in shapes or "conv9.conv.weight" not in shapes:
        return None
    dim = shapes["conv9.conv.weight"][0]
    if dim != 1280:
        reason = "width 1.4 rounds its channels differently; only width 1 is supported"
        return FoundWeights(TOOLBOX, "MobileNetV2 x1.4", licence=LICENCE, reason=reason)
    from reid_lab.backbone.mobilenetv2 import of_torchvision

    backbone = {"_target_": "reid_lab.backbone.MobileNetV2", "first_expansion": True}
    names = renamed(shapes, lambda key: behind(of_torchvision(mobilenet_key(key))))
    words = "backbone=mobilenetv2 backbone.first_expansion=true"
    return _classifier(shapes, "MobileNetV2 x1.0", backbone, names, words, dim, choices)


def mobilenet_key(key: str) -> str:
    """torchreid's key of MobileNetV2 -> torchvision's; the first block has one layer more."""
    if match := re.match(r"conv([3-8])\.(\d)\.", key):
        key = f"{BLOCKS[int(match[1])] + int(match[2])}.{key[match.end() :]}"
    for pattern, theirs in MOBILENET:
        key = re.sub(pattern, theirs, key)
    key = re.sub(r"^(\d+)\.conv1\.", r"\1.conv.0.", key)
    key = re.sub(r"^(\d+)\.dwconv2\.", r"\1.conv.1.", key)
    key = re.sub(r"^(\d+)\.conv3\.(\d)\.", lambda m: f"{m[1]}.conv.{int(m[2]) + 2}.", key)
    return "features." + re.sub(r"\.bn\.", ".1.", re.sub(r"\.conv\.(weight|bias)$", r".0.\1", key))


def _hacnn(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    if "ha1.soft_attn.spatial_attn.conv1.conv.weight" not in shapes:
        return None
    heads: list[str] = ["global and local branch of 512"]
    if "fc_local.0.weight" not in shapes:
        reason = "a HACNN without its local branch"
        return FoundWeights(TOOLBOX, "HACNN", licence=LICENCE, reason=reason)
    classes = shapes.get("classifier_global.weight", (None,))[0]
    dim = shapes["fc_global.0.weight"][0]
    model = {
        "_target_": "reid_lab.model.HAN",
        "identities": classes or 1,
        "loss": {"_target_": "reid_lab.loss.BatchHardTriplet"},
        "unit": "inception",
        "dim": 2 * dim,
        "resampling": "torchreid",
    }
    folded = {key: mean for key in shapes if (mean := _mean_behind(key)) and mean in shapes}
    names = renamed(shapes, lambda key: None if key in folded else hacnn_key(key))
    new = {} if classes else {f"classifiers.{i}.weight": (1, dim) for i in range(2)}
    notes = ["its classifiers' biases are left out: HAN's have none"] if classes else []
    if classes:
        heads.append(f"classifiers of {classes:,} classes")
    if choices.image not in (None, (160, 64)):
        notes.append("torchreid's HACNN takes 160x64 only")
    return FoundWeights(
        TOOLBOX,
        "HACNN",
        tuple(heads),
        classes,
        LICENCE,
        model,
        "model=han model.unit=inception model.resampling=torchreid",
        choices.image or (160, 64),
        names,
        folded,
        new=new,
        notes=tuple(notes),
    )


def hacnn_key(key: str) -> str | None:
    """torchreid's key of HACNN -> that of `reid_lab.model.HAN`, whose classifiers have no bias."""
    if key in ("classifier_global.bias", "classifier_local.bias"):
        return None
    for pattern, ours in HACNN:
        key = re.sub(pattern, ours, key)
    return key if key.startswith(("network.", "classifiers.")) else None


def _mean_behind(key: str) -> str | None:
    """The running mean of the batch norm behind the layer with this bias; None for other keys."""
    for bias, mean in ((r"(.*)\bconv\.bias$", r"\1bn"), (r"(fc_\w+)\.0\.bias$", r"\1.1")):
        if re.match(bias, key):
            return re.sub(bias, mean, key) + ".running_mean"
    return None


def _fc_key(key: str) -> str | None:
    """The layers behind the pool: linear, batch norm."""
    match = re.match(r"fc\.([01])\.", key)
    return f"pool.{int(match[1]) + 2}.{key[match.end() :]}" if match else None


def _classifier(
    shapes: Shapes,
    network: str,
    backbone: dict[str, Any],
    names: dict[str, str],
    words: str,
    dim: int,
    choices: Choices,
    *notes: str,
) -> FoundWeights:
    """A backbone with torchreid's heads: an optional layer `fc`, and a classifier."""
    names |= renamed(shapes, _fc_key)
    image = choices.image or (256, 128)
    found = FoundWeights(TOOLBOX, network, licence=LICENCE, image=image, names=names, notes=notes)
    fc = shapes["fc.0.weight"][0] if "fc.0.weight" in shapes else None
    return on_classifier(found, backbone, words, shapes, "classifier", dim, fc)
