"""Key names of ResNets: torchvision's, which torchreid, fast-reid and timm share."""

from __future__ import annotations

import re
from typing import Any

from reid_lab.backbone.weights.found import Shapes, depth_of

BASIC: dict[tuple[int, ...], int] = {
    (2, 2, 2, 2): 18,
    (3, 4, 6, 3): 34,
}  # blocks of each layer -> depth
BOTTLENECK: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
SUPPORTED = (18, 34, 50)
CHANNELS = {18: 512, 34: 512, 50: 2048}
FIRST = "layer1.0."  # the first block
EXTRAS = (  # what else a block may have: pattern of a key, its name
    (r"layer\d\.\d+\.se", "squeeze-and-excitation"),
    (r"layer\d\.\d+\.IN\.", "IBN-b"),
    (r"NL_\d\.", "non-local blocks"),
    (r"conv1\.0\.", "a deep stem"),
)


def is_resnet(shapes: Shapes, prefix: str = "") -> bool:
    """Whether the keys under a prefix are a ResNet's, of any depth and kind."""
    return {f"{prefix}{FIRST}conv1.weight", f"{prefix}{FIRST}conv2.weight"} <= set(shapes)


def resnet_key(key: str) -> str | None:
    """A key of torchvision's ResNet -> the key of `reid_lab.backbone.ResNet`; None for heads."""
    for start, ours in (
        ("conv1.", "stage1.0.0."),
        ("bn1.", "stage1.0.1."),
        ("layer1.", "stage1.1."),
    ):
        if key.startswith(start):
            return f"stages.{ours}{key.removeprefix(start)}"
    return re.sub(r"^layer", "stages.stage", key) if re.match(r"layer[234]\.", key) else None


def resnet_name(shapes: Shapes, prefix: str = "") -> str:
    """ResNet-50, ResNet-50-IBN, ResNet with ...; see `supported`."""
    depth = _depth(shapes, prefix)
    name = f"ResNet-{depth}" if depth else "a ResNet"
    name += "-IBN" if _ibn(shapes, prefix) else ""
    extras = _extras(shapes, prefix)
    return name + (f" with {' and '.join(extras)}" if extras else "")


def resnet_config(shapes: Shapes, prefix: str = "") -> dict[str, Any] | None:
    """The config of our backbone with these keys; None if we have no such network."""
    depth = _depth(shapes, prefix)
    if depth not in SUPPORTED or _extras(shapes, prefix) or (_ibn(shapes, prefix) and depth < 50):
        return None
    config: dict[str, Any] = {"_target_": "reid_lab.backbone.ResNet", "depth": depth}
    return {**config, "ibn": True} if _ibn(shapes, prefix) else config


def _depth(shapes: Shapes, prefix: str) -> int | None:
    blocks, first = depth_of(shapes, prefix), prefix + FIRST
    if f"{first}conv3.weight" not in shapes:
        return BASIC.get(blocks)
    outputs, inputs = shapes[f"{first}conv2.weight"][:2]
    plain = outputs == inputs == 64  # neither grouped nor wide
    return BOTTLENECK.get(blocks) if plain else None


def _ibn(shapes: Shapes, prefix: str) -> bool:
    return f"{prefix}{FIRST}bn1.IN.weight" in shapes


def _extras(shapes: Shapes, prefix: str) -> list[str]:
    keys = [key.removeprefix(prefix) for key in shapes]
    return [name for pattern, name in EXTRAS if any(re.match(pattern, key) for key in keys)]
