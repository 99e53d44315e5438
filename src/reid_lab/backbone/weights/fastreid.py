"""Import checkpoints of fast-reid (JDAI-CV/fast-reid)."""

from __future__ import annotations

from typing import Any

from reid_lab.backbone.weights.found import Choices, FoundWeights, Shapes, renamed
from reid_lab.backbone.weights.resnet import (
    CHANNELS,
    is_resnet,
    resnet_config,
    resnet_key,
    resnet_name,
)

TOOLBOX = "fast-reid"
LICENCE = "Apache-2.0 (fast-reid's code)"
PREFIX = "backbone."
EXIT = "stage4"
CLASSIFIERS = ("heads.weight", "heads.classifier.weight")  # names in 1.3 and before
NECKS = ("heads.bottleneck.0", "heads.bottleneck.1", "heads.bnneck")


def find(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    """The fast-reid network of a state dict; None for other toolboxes."""
    if not any(key.startswith(PREFIX) for key in shapes) or not any(
        key.startswith("heads.") for key in shapes
    ):
        return None
    if not is_resnet(shapes, PREFIX):
        return FoundWeights(
            TOOLBOX, "a network that is no ResNet", licence=LICENCE, reason="only its ResNets"
        )
    name, backbone = resnet_name(shapes, PREFIX), resnet_config(shapes, PREFIX)
    neck = next((n for n in NECKS if f"{n}.running_mean" in shapes), None)
    reason = ""
    if backbone is None:
        reason = "no such ResNet here"
    elif neck is None:
        reason = "no batch-norm neck (heads.bottleneck)"
    elif any(key.startswith(("heads.b1", "heads.b2")) for key in shapes):
        reason = "MGN has a head for each part"
    if reason or backbone is None or neck is None:
        return FoundWeights(TOOLBOX, name, licence=LICENCE, reason=reason)
    return _bag_of_tricks(shapes, choices, name, backbone, neck)


def _bag_of_tricks(
    shapes: Shapes, choices: Choices, network: str, backbone: dict[str, Any], neck: str
) -> FoundWeights:
    stride = choices.last_stride or 1
    backbone |= {"last_stride": stride, "stem_pool": "ceil"}
    model: dict[str, Any] = {"_target_": "reid_lab.model.BagOfTricks", "backbone": backbone}
    model |= {"loss": {"_target_": "reid_lab.loss.BatchHardTriplet"}, "centre": 0}
    names = renamed(shapes, _backbone_key)
    names |= {
        key: key.replace(neck, f"necks.{EXIT}") for key in shapes if key.startswith(f"{neck}.")
    }
    heads = []
    if "heads.pool_layer.p" in shapes:
        heads.append("GeM pooling")
        model["pool"] = "gem"
        names["heads.pool_layer.p"] = f"pools.{EXIT}.p"
    dim, reshaped = CHANNELS[backbone["depth"]], {}
    reduce = "heads.bottleneck.0.weight"
    if neck.endswith("bottleneck.1"):  # behind a 1x1 convolution
        model["dim"] = dim = shapes[reduce][0]
        heads.append(f"1x1 convolution to {dim}")
        names[reduce] = f"reduce.{EXIT}.weight"
        reshaped = {names[reduce]: shapes[reduce][:2]}
    heads.append(f"batch-norm neck of {dim}")
    weight = next((key for key in CLASSIFIERS if key in shapes), None)
    classes = shapes[weight][0] if weight else None
    new: dict[str, tuple[int, ...]] = {}
    if weight is not None:
        heads.append(f"classifier of {classes:,} classes")
        names[weight] = f"classifiers.{EXIT}.weight"
    else:
        new[f"classifiers.{EXIT}.weight"] = (1, dim)
    model["identities"] = classes or 1
    return FoundWeights(
        TOOLBOX,
        network,
        tuple(heads),
        classes,
        LICENCE,
        model,
        _overrides(model),
        choices.image or (256, 128),
        names,
        reshaped=reshaped,
        new=new,
        notes=(
            f"last stride {stride}, fast-reid's; no file records it (--last-stride)",
            "fast-reid ranks by cosine distance (callbacks.ranking.metric=cosine)",
        ),
    )


def _overrides(model: dict[str, Any]) -> str:
    """The overrides of a run with this model."""
    backbone = model["backbone"]
    words = f"model=bot backbone=resnet{backbone['depth']}"
    words += f" backbone.last_stride={backbone['last_stride']} model.centre=0"
    words += " backbone.stem_pool=ceil" + " backbone.ibn=true" * bool(backbone.get("ibn"))
    return words + "".join(f" model.{key}={model[key]}" for key in ("dim", "pool") if key in model)


def _backbone_key(key: str) -> str | None:
    ours = resnet_key(key.removeprefix(PREFIX)) if key.startswith(PREFIX) else None
    return ours and PREFIX + ours
