"""Identify the toolbox and the network of a weights file by its key names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid_lab.backbone.weights import fastreid, mobilenet, timm, torchreid, torchvision
from reid_lab.backbone.weights.files import WeightsFile
from reid_lab.backbone.weights.found import Choices, FoundWeights, Importer, Shapes

OURS = "reid_lab"
IMPORTERS: tuple[Importer, ...] = (
    *(fastreid.find, torchreid.find, torchvision.find),
    mobilenet.find,  # before timm's, which asks for the network's name
    timm.find,
)


def identify(file: WeightsFile, choices: Choices | None = None) -> FoundWeights:
    """The network in a weights file; files of unknown toolboxes give `unknown`, with the reason."""
    found = _ours(file) or _clip_reid(file.shapes)
    if found is not None:
        return found
    choices = choices or Choices()
    importers = (timm.find,) if choices.network else IMPORTERS
    try:
        found = next(filter(None, (find(file.shapes, choices) for find in importers)), None)
    except (LookupError, ValueError) as error:  # a tensor is missing, or has fewer dimensions
        reason = f"names of a known toolbox, but tensors of unknown shapes ({error})"
        return FoundWeights("unknown", "unknown", reason=reason)
    if found is not None:
        return found
    first = ", ".join(list(file.state)[:3])
    return FoundWeights(
        "unknown",
        "unknown",
        reason=f"key names of no known toolbox (first: {first}); known: reid_lab, fast-reid, "
        "torchreid, torchvision, MobileNet v1 of TF-slim (.npz), transformers and timm, and other "
        "networks of timm with --network NAME",
    )


def _ours(file: WeightsFile) -> FoundWeights | None:
    kept = file.others.get("hyper_parameters")
    if isinstance(kept, Mapping) and isinstance(kept.get("model"), Mapping):
        model: Mapping[str, Any] = kept["model"]
        image = kept.get("image", [])
        backbone = model.get("backbone")
        parts = [model, backbone] if isinstance(backbone, Mapping) else [model]
        names = [str(part.get("_target_", "?")).rpartition(".")[2] for part in parts]
        classes = model.get("identities")
        return FoundWeights(
            OURS,
            " on ".join(names),
            classes=classes if isinstance(classes, int) else None,
            licence="MIT (reid_lab's code)",
            overrides=_call(model),
            image=(image[0], image[1]) if isinstance(image, list) and len(image) == 2 else (0, 0),
            names={key: key for key in file.state},
            reason="it is a checkpoint of reid_lab already: use it as it is",
        )
    if all(key.startswith(("stages.", "backbone.stages.")) for key in file.state):
        reason = "a backbone's state dict without a config: give it as backbone.weights=FILE"
        return FoundWeights(OURS, "a backbone", licence="MIT (reid_lab's code)", reason=reason)
    return None


def _call(config: Any, depth: int = 8) -> str:
    """A stored config as the call that builds it: `DaRe(backbone=ResNet(depth=50), dim=128)`."""
    if not isinstance(config, Mapping | list):
        return str(config)[:60]
    if depth == 0:
        return "..."
    if isinstance(config, list):
        return f"[{', '.join(_call(value, depth - 1) for value in config)}]"
    shown = {key: _call(v, depth - 1) for key, v in config.items() if key != "_target_"}
    given = ", ".join(f"{key}={value}" for key, value in shown.items())
    return f"{str(config.get('_target_', '')).rpartition('.')[2]}({given})"


def _clip_reid(shapes: Shapes) -> FoundWeights | None:
    if "bottleneck_proj.weight" not in shapes or not any(
        key.startswith("image_encoder.") for key in shapes
    ):
        return None
    classes = shapes.get("classifier.weight", (None,))[0]
    heads = ("batch-norm necks of the feature and its projection",)
    return FoundWeights(
        "CLIP-ReID",
        "CLIP's image encoder",
        heads if classes is None else (*heads, f"classifiers of {classes:,} classes"),
        classes,
        "MIT (CLIP-ReID's code)",
        reason="CLIP's image encoder is not among the networks here",
    )
