"""Import ImageNet weights of MobileNet v1: of TF-slim, transformers, timm and pytorch-mobilenet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from reid_lab.backbone.weights.found import Choices, FoundWeights, Shapes, on_classifier

UNITS = 13  # depthwise separable ones, behind the first convolution
BLOCKS = (1, 2, 2, 6, 2)  # blocks of timm's stages
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
SLIM_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# TensorFlow's layout -> ours
KERNEL = (3, 2, 0, 1)  # (h, w, inputs, outputs) -> (outputs, inputs, h, w)
DEPTHWISE = (2, 3, 0, 1)  # (h, w, channels, 1) -> (channels, 1, h, w)


@dataclass(frozen=True)
class MobileNetSource:
    """Files of MobileNet v1, as one implementation writes them.

    Attributes:
        toolbox: name of the implementation.
        licence: licence of its code.
        variant: equivalent variant of `reid_lab.backbone.MobileNet`.
        layers: the names of each convolution and of its batch norm, in the order of the network.
        head: the classifier's name.
    """

    toolbox: str
    licence: str
    variant: str
    layers: tuple[tuple[str, str], ...]
    head: str


def _timm() -> Iterator[tuple[str, str]]:
    yield "conv_stem", "bn1"
    for stage, count in enumerate(BLOCKS):
        for block in range(count):
            start = f"blocks.{stage}.{block}"
            yield f"{start}.conv_dw", f"{start}.bn1"
            yield f"{start}.conv_pw", f"{start}.bn2"


def _transformers() -> Iterator[tuple[str, str]]:
    for name in ("conv_stem", *(f"layer.{number}" for number in range(2 * UNITS))):
        yield f"mobilenet_v1.{name}.convolution", f"mobilenet_v1.{name}.normalization"


def _sequential() -> Iterator[tuple[str, str]]:
    yield "model.0.0", "model.0.1"
    for unit in range(1, UNITS + 1):
        yield f"model.{unit}.0", f"model.{unit}.1"
        yield f"model.{unit}.3", f"model.{unit}.4"


SOURCES = (
    MobileNetSource("timm", "Apache-2.0 (timm's code)", "timm", (*_timm(),), "classifier"),
    MobileNetSource(
        "transformers",
        "Apache-2.0 (transformers' and TF-slim's code)",
        "tf_slim",
        (*_transformers(),),
        "classifier",
    ),
    MobileNetSource(
        "pytorch-mobilenet", "MIT (pytorch-mobilenet's code)", "plain", (*_sequential(),), "fc"
    ),
)
# keys of timm's networks that have all of MobileNet v1's, and more
OTHERS = ("conv_head.weight", "blocks.1.0.conv_pwl.weight")
# TF-slim's name of a convolution (without /weights), and of what is beside its batch norm
SLIM = (
    "MobilenetV1/Conv2d_0",
    *chain.from_iterable(
        (f"MobilenetV1/Conv2d_{unit}_depthwise", f"MobilenetV1/Conv2d_{unit}_pointwise")
        for unit in range(1, UNITS + 1)
    ),
)
SLIM_HEAD = "MobilenetV1/Logits/Conv2d_1c_1x1"
BACKGROUND = "class 0 is TensorFlow's background class: labels are shifted by one"


def find(shapes: Shapes, choices: Choices) -> FoundWeights | None:
    """The MobileNet v1 that a state dict or TF-slim's variables hold; None for other networks."""
    if f"{SLIM[-1]}/weights" in shapes:
        return _slim(shapes, choices)
    if not any(key in shapes for key in OTHERS):
        for source in SOURCES:
            kernels = [f"{conv}.weight" for conv, _ in source.layers]
            if all(key in shapes for key in kernels):
                names = dict(_names(source, shapes))
                return _found(shapes, choices, source, kernels[-1], names, source.head)
    return None


def _names(source: MobileNetSource, shapes: Shapes) -> Iterator[tuple[str, str]]:
    """Key in the file -> our key."""
    for (conv, norm), (our_conv, our_norm) in zip(source.layers, _ours(), strict=True):
        yield f"{conv}.weight", f"{our_conv}.weight"
        yield from ((f"{norm}.{x}", f"{our_norm}.{x}") for x in NORM if f"{norm}.{x}" in shapes)


def _ours() -> list[tuple[str, str]]:
    from reid_lab.backbone.mobilenet import layer_keys

    return [(f"backbone.{conv}", f"backbone.{norm}") for conv, norm in layer_keys()]


def _slim(shapes: Shapes, choices: Choices) -> FoundWeights:
    names, axes = {}, {}
    for name, (conv, norm) in zip(SLIM, _ours(), strict=True):
        depthwise = name.endswith("depthwise")
        kernel = f"{name}/{'depthwise_' * depthwise}weights"
        names[kernel] = f"{conv}.weight"
        axes[f"{conv}.weight"] = DEPTHWISE if depthwise else KERNEL
        for theirs, ours in zip(SLIM_NORM, NORM, strict=False):
            names[f"{name}/BatchNorm/{theirs}"] = f"{norm}.{ours}"
    names = {key: ours for key, ours in names.items() if key in shapes}
    source = MobileNetSource("TF-slim", "Apache-2.0 (TF-slim's code)", "tf_slim", (), "")
    last = f"{SLIM[-1]}/weights"
    kernel, bias = f"{SLIM_HEAD}/weights", f"{SLIM_HEAD}/biases"
    # the classifier is a 1x1 convolution there
    (_, _, dim, classes) = shapes.get(kernel, (1, 1, 0, 0))
    head = {"head.weight": (classes, dim), "head.bias": shapes.get(bias, ())} if classes else {}
    found = _found({**shapes, **head}, choices, source, last, names, "head")
    if not classes:
        return replace(found, axes=axes)
    renamed = {kernel: "classifier.weight", bias: "classifier.bias"}
    kept = {key: name for key, name in found.names.items() if key not in head}
    return replace(
        found,
        names={**kept, **renamed},
        axes={**axes, "classifier.weight": KERNEL},
        reshaped={"classifier.weight": (classes, dim)},
    )


def _found(
    shapes: Shapes,
    choices: Choices,
    source: MobileNetSource,
    last: str,
    names: dict[str, str],
    head: str,
) -> FoundWeights:
    from reid_lab.backbone.mobilenet import HALF
    from reid_lab.backbone.timm_networks import Renormalise

    dim = max(shapes[last])
    alpha = dim / 1024
    constants = {}
    if source.variant != "plain":
        state = Renormalise(HALF, HALF).state_dict()
        constants = {f"backbone.stages.stage1.renormalise.{k}": v for k, v in state.items()}
    notes = [f"variant {source.variant}; no file records it"]
    if shapes.get(f"{head}.weight", ())[:1] == (1001,):
        notes.append(BACKGROUND)
    found = FoundWeights(
        source.toolbox,
        f"MobileNet v1 x{alpha:g}",
        licence=source.licence,
        image=choices.image or (128, 128),
        names=names,
        constants=constants,
        notes=tuple(notes),
    )
    backbone = {"_target_": "reid_lab.backbone.MobileNet", "alpha": alpha}
    words = f"backbone=mobilenet backbone.alpha={alpha}"
    if source.variant != "plain":
        backbone["variant"] = source.variant
        words += f" backbone.variant={source.variant}"
    return on_classifier(found, backbone, words, shapes, head, dim)
