"""Import networks of timm. A state dict does not name its network, so the user has to."""

from __future__ import annotations

import math
from typing import Any

import torch

from reid_lab import optional
from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.timm_networks import Renormalise
from reid_lab.backbone.weights.found import Choices, FoundWeights, Shapes, on_classifier

TOOLBOX = "timm"
LICENCE = "Apache-2.0 (timm's code)"
VIT = "blocks.0.attn.proj.weight"
# a key that only networks of one family have -> the family
FAMILIES = {
    "conv_stem.weight": "EfficientNet or MobileNet",
    VIT: "a vision transformer",
    "stages.0.blocks.0.conv_dw.weight": "ConvNeXt",
    "s1.b1.conv1.conv.weight": "RegNet",
}


def find(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    """The timm network of that name, or a hint to name it; None if the keys are not timm's."""
    if choices.network is not None:
        return _named(shapes, choices, choices.network)
    families = [family for key, family in FAMILIES.items() if key in shapes]
    if not families:
        return None
    reason = "a state dict of timm does not name its network: give --network, such as "
    reason += "mobilenetv2_100 or vit_small_patch16_224"
    return FoundWeights(TOOLBOX, families[0], licence=LICENCE, reason=reason)


def _named(shapes: Shapes, choices: Choices, name: str) -> FoundWeights:
    """
    Raises:
        UserError: timm has no such network, or it cannot be cut into stages.
    """
    from reid_lab.backbone.timm_cnn import TimmCNN
    from reid_lab.backbone.timm_vit import TimmViT

    backbone: dict[str, Any] = {"_target_": "reid_lab.backbone.TimmCNN", "name": name}
    image, words = choices.image or (256, 128), f"backbone=timm backbone.name={name}"
    kind: type[Backbone] = TimmCNN
    if VIT in shapes:
        kind, square = TimmViT, _square(shapes)
        image = choices.image or square
        if image != square:
            reason = f"its position embedding is of images of {square[0]}x{square[1]}: omit --image"
            reason += f", or train with backbone=timm_vit backbone.name={name} backbone.weights="
            return FoundWeights(TOOLBOX, name, licence=LICENCE, reason=f"{reason}FILE")
        size = {"height": image[0], "width": image[1]}
        backbone |= {"_target_": "reid_lab.backbone.TimmViT", **size}
        words = f"backbone=timm_vit backbone.name={name}"
        words += "".join(f" backbone.{key}={value}" for key, value in size.items())
    elif choices.last_stride is not None:
        backbone["last_stride"] = choices.last_stride
        words += f" backbone.last_stride={choices.last_stride}"
    with torch.device("meta"):
        ours = kind(**{k: v for k, v in backbone.items() if k != "_target_"})
    theirs = {key.replace(".", "_"): key for key in shapes}
    pairs = {theirs.get(_flat(key, VIT in shapes)): f"backbone.{key}" for key in ours.state_dict()}
    names = {their: our for their, our in pairs.items() if their is not None}
    constants = {
        f"backbone.{module}.{key}": value
        for module, part in ours.named_modules()
        if isinstance(part, Renormalise)
        for key, value in _renormalise(name).state_dict().items()
    }
    found = FoundWeights(
        TOOLBOX, name, licence=LICENCE, image=image, names=names, constants=constants
    )
    dim = ours.channels[-1]
    rest = {key.rpartition(".")[0] for key in shapes if key not in names}
    head = rest.pop() if len(rest) == 1 else ""
    if shapes.get(f"{head}.weight", ())[1:] != (dim,):  # something is between it and the pool
        head = ""
    return on_classifier(found, backbone, words, shapes, head, dim)


def _renormalise(name: str) -> Renormalise:
    config = optional.load("timm", f"--network {name}").get_pretrained_cfg(name)
    return Renormalise(config.mean, config.std)


def _flat(key: str, vit: bool) -> str:
    """Our key -> timm's with underscores for dots: without the stage, and a transformer's stem."""
    if key.startswith("stages."):
        key = key.split(".", 2)[2]
    return (key.removeprefix("stem.") if vit else key).replace(".", "_")


def _square(shapes: Shapes) -> tuple[int, int]:
    """Image size of a transformer, from the number of patches of its position embedding."""
    prefix = sum(shapes[key][1] for key in ("cls_token", "reg_token") if key in shapes)
    positions = shapes["pos_embed"][1] if "pos_embed" in shapes else 196
    patches = positions if math.isqrt(positions) ** 2 == positions else positions - prefix
    side = math.isqrt(patches) * shapes["patch_embed.proj.weight"][2]
    return side, side
