"""The findings of an importer in a weights file, and the conversion to our names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
# of classes -> the training set with so many people, of those that published weights are of
PEOPLE = {
    751: "Market-1501",
    702: "DukeMTMC-reID",
    767: "CUHK03-NP",
    1041: "MSMT17",
    4101: "MSMT17 (all splits)",
    1000: "ImageNet-1K",
    1001: "ImageNet-1K",  # TensorFlow's, with a background class
}
PARTS = {  # of a file's name -> data set
    "market": "Market-1501",
    "duke": "DukeMTMC-reID",
    "msmt17": "MSMT17",
    "msmt": "MSMT17",
    "cuhk03": "CUHK03",
    "imagenet": "ImageNet-1K",
}


@dataclass(frozen=True)
class Choices:
    """Settings that no state dict records; None takes the toolbox's default.

    Attributes:
        image: (height, width) of the network's input.
        last_stride: stride of a ResNet's last stage.
        network: timm's name of the network.
    """

    image: tuple[int, int] | None = None
    last_stride: int | None = None
    network: str | None = None


@dataclass(frozen=True)
class FoundWeights:
    """A network in a weights file, as its key names and shapes show.

    Attributes:
        toolbox: toolbox with these key names, or "unknown".
        network: name of the network in the toolbox.
        heads: description of the layers behind the backbone.
        classes: number of classes of the classifier; None if the file has no classifier.
        licence: licence of the toolbox's code.
        model: config of the corresponding method; None if the suite has no such network.
        overrides: the config as command-line overrides.
        image: (height, width) of the input.
        names: key in the file -> our key.
        folded: bias of a convolution or linear layer -> the running mean behind it, in the file's
            names: our layers have no such bias, and the mean absorbs it.
        axes: our key -> the file's axes in our order, if the layout differs.
        reshaped: our key -> shape, if the same numbers have another shape.
        new: our key -> shape of tensors that the file lacks and tests do not need; they are zero.
        constants: our key -> values that belong to the network but are in no file.
        notes: assumptions and remarks for the user.
        reason: reason why there is no `model`.
    """

    toolbox: str
    network: str
    heads: tuple[str, ...] = ()
    classes: int | None = None
    licence: str = "not known"
    model: Mapping[str, Any] | None = None
    overrides: str = ""
    image: tuple[int, int] = (256, 128)
    names: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reshaped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    new: Shapes = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reason: str = ""

    def left_over(self, shapes: Shapes) -> list[str]:
        """Tensors without a counterpart in our network."""
        return [key for key in shapes if key not in self.names and key not in self.folded]

    def convert(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The file's tensors under our names."""
        state = dict(state)
        for bias, mean in self.folded.items():
            state[mean] = state[mean] - state[bias]
        ours = {new: state[old].clone() for old, new in self.names.items()}
        ours |= {key: ours[key].permute(axes).contiguous() for key, axes in self.axes.items()}
        ours |= {key: ours[key].reshape(shape) for key, shape in self.reshaped.items()}
        ours |= {key: torch.zeros(shape) for key, shape in self.new.items()} | {**self.constants}
        for key in [*ours]:  # files of before torch 0.4.1 have no counters of batches
            if key.endswith("running_var"):
                counter = key.replace("running_var", "num_batches_tracked")
                ours.setdefault(counter, torch.tensor(0))
        return ours


Importer = Callable[[Shapes, Choices], FoundWeights | None]


def on_classifier(
    found: FoundWeights,
    backbone: Mapping[str, Any],
    words: str,
    shapes: Shapes,
    head: str,
    dim: int,
    fc: int | None = None,
) -> FoundWeights:
    """A backbone in a file as `model=classifier`, with the file's classifier if it was kept.

    Args:
        found: findings with toolbox, network and the names of the backbone's tensors.
        backbone: config of the backbone; `words`: the same as command-line overrides.
        head: name of the classifier in the file.
        dim: channels of the backbone's last stage.
        fc: units of the layer behind the pool, if there is one.
    """
    model: dict[str, Any] = {"_target_": "reid_lab.model.Classifier", "backbone": backbone}
    heads, names, words = list(found.heads), dict(found.names), f"model=classifier {words}"
    if fc is not None:
        model["fc"], words, dim = fc, f"{words} model.fc={fc}", fc
        heads.append(f"linear, batch norm and ReLU to {fc}")
    ours = {f"{head}.{part}": f"classifier.{part}" for part in ("weight", "bias")}
    classes = shapes[f"{head}.weight"][0] if set(ours) <= set(shapes) else None
    new: Shapes = {}
    if classes is None:
        new = {"classifier.weight": (1, dim), "classifier.bias": (1,)}
    else:
        heads.append(f"classifier of {classes:,} classes")
        names |= ours
    return replace(
        found,
        heads=tuple(heads),
        classes=classes,
        model={**model, "identities": classes or 1},
        overrides=words,
        names=names,
        new=new,
    )


def behind(key: str | None) -> str | None:
    """The key of a backbone's tensor in a method's checkpoint."""
    return None if key is None else f"backbone.{key}"


def renamed(shapes: Shapes, rename: Callable[[str], str | None]) -> dict[str, str]:
    """Key in the file -> our key, for keys that `rename` knows."""
    pairs = ((key, rename(key)) for key in shapes)
    return {old: new for old, new in pairs if new is not None}


def depth_of(shapes: Shapes, prefix: str) -> tuple[int, ...]:
    """Blocks of each of a ResNet's four layers under `prefix`."""
    found = []
    for layer in range(1, 5):
        start = f"{prefix}layer{layer}."
        blocks = {key[len(start) :].split(".")[0] for key in shapes if key.startswith(start)}
        found.append(len(blocks))
    return tuple(found)


def block_of(number: int, groups: Sequence[int]) -> tuple[int, int]:
    """The group of block `number`, and its number there; all count from 0.

    Args:
        groups: blocks of each group.
    """
    group = 0
    while number >= groups[group]:
        number, group = number - groups[group], group + 1
    return group, number


def training_data(name: str, classes: int | None) -> str | None:
    """The data set of a file, by the number of its classes, else by its name; None if unknown."""
    if classes in PEOPLE:
        return f"{PEOPLE[classes]} (by its {classes:,} classes)"
    parts = [data for part, data in PARTS.items() if part in name.lower()]
    return f"{parts[0]} (by the file's name)" if parts else None
