"""Convolutional networks of timm, cut into stages at the modules of `feature_info`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.timm_networks import Renormalise, build, load_ours
from reid_lab.errors import UserError
from reid_lab.types import NonNegativeInt

PROBE = 128  # pixels of the image that shows where a network can be cut
FIRST = 4  # reduction of the first stage by default: at 1/2 there are few channels, many pixels


class CutError(UserError):
    """A network cannot be cut into stages; the message says why."""


class TimmCNN(Backbone):
    """A CNN of timm up to its last map, as computed by `forward_features`.

    Stage s ends where entry `out_indices[s]` of timm's `feature_info` does; layers behind the last
    entry, such as MobileNetV2's last 1x1 convolution, belong to the last stage. Head and classifier
    are left out, as are layers that timm puts behind its pool (MobileNetV3's `conv_head`,
    ConvNeXt's last norm).

    Args:
        name: name of a network in timm, with or without the tag of its weights;
            `timm.list_models()` has all names.
        weights: `imagenet` for timm's weights of this name and tag, None for scratch, or the path
            of a state dict of timm's network or of a checkpoint of ours with this backbone.
        last_stride: 1 leaves the last stage at 1/16: timm's `output_stride=16`, if the network
            supports it. timm dilates the convolutions of this stage to keep their receptive field.
        out_indices: entries of `feature_info` that become stages; None: all at 1/4 and below.
            Without the last entry, the network ends at the last one given.

    Raises:
        UserError: unknown network, or one that cannot be cut.
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        name: str = "mobilenetv2_100",
        weights: str | Path | None = None,
        last_stride: Literal[1, 2] = 2,
        out_indices: Sequence[NonNegativeInt] | None = None,
    ) -> None:
        options: dict[str, Any] = {"output_stride": 16} if last_stride == 1 else {}
        network = build("backbone=timm", name, weights, options)
        ends = _ends(name, network, out_indices)
        trunk = _trunk(name, network, list(ends.values()))
        stages = _stages(trunk, list(ends.values()), max(ends) == len(network.feature_info) - 1)
        first = stages["stage1"]
        if (renormalise := Renormalise.of(network)) is not None:
            stages["stage1"] = nn.Sequential(
                OrderedDict(normalise=renormalise, **dict(first.named_children()))
            )
        shapes = _shapes(stages)
        _check_maps(name, shapes, last_stride)
        super().__init__(stages, tuple(shape[1] for shape in shapes.values()))
        load_ours(self, weights)


class LayerCall(NamedTuple):
    """A layer that ran, with its input and output."""

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor


def _ends(name: str, network: nn.Module, indices: Sequence[int] | None) -> dict[int, str]:
    """Entry of `feature_info` -> the module behind which its stage ends."""
    entries = list(getattr(network, "feature_info", ()))
    listed = "; ".join(f"{i}: {e['module']} at 1/{e['reduction']}" for i, e in enumerate(entries))
    if indices is None:
        indices = [i for i, entry in enumerate(entries) if entry["reduction"] >= FIRST]
    wanted = sorted({*indices})
    if not wanted or wanted != list(indices) or wanted[-1] >= len(entries):
        raise CutError(
            f"backbone.out_indices={list(indices)}: give entries of timm's feature_info of {name}, "
            f"in ascending order: {listed or 'it has none, choose another network'}"
        )
    return {i: entries[i]["module"] for i in wanted}


def _trunk(name: str, network: Any, ends: list[str]) -> dict[str, nn.Module]:
    """The layers that `forward_features` runs in sequence, down to those in `ends`.

    Raises:
        CutError: it does more than passing the output of each layer to the next.
    """
    layers = dict(_layers(network, ends))
    training, calls = network.training, list[LayerCall]()
    hooks = [
        layer.register_forward_hook(
            lambda module, given, made, key=key: calls.append(
                LayerCall(key, module, given[0], made)
            )
        )
        for key, layer in layers.items()
    ]
    image = _image(network)
    network.eval()
    try:
        with torch.no_grad():
            result = network.forward_features(image)
    except Exception as error:  # any network, any error
        raise CutError(
            f"backbone.name={name} does not take images of {PROBE}x{PROBE} ({error}): choose a "
            "network for images of any size, or backbone=timm_vit for ViTs"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        network.train(training)
    _check_chain(name, image, calls, result)
    trunk = {call.name: call.module for call in calls}
    if not image.is_meta:  # operations in place leave no other trace than their result
        chain = nn.Sequential(*trunk.values()).eval()
        with torch.no_grad():
            same = torch.allclose(chain(_image(network)), result, atol=1e-4, rtol=1e-4)
        chain.train(training)
        if not same:
            raise CutError(_uncut(name, "it computes between its layers"))
    return trunk


def _layers(module: nn.Module, ends: list[str], above: str = "") -> list[tuple[str, nn.Module]]:
    """Children by dotted name; lists of layers are expanded if a stage ends inside."""
    found = []
    for key, child in module.named_children():
        name = f"{above}{key}"
        inside = any(end.startswith(f"{name}.") for end in ends)
        if inside and isinstance(child, nn.Sequential | nn.ModuleList):
            found += _layers(child, ends, f"{name}.")
        else:
            found.append((name, child))
    return found


def _check_chain(name: str, image: Tensor, calls: list[LayerCall], result: object) -> None:
    x: object = image
    last = "the image"
    for call in calls:
        if call.input is not x:
            raise CutError(_uncut(name, f"{call.name} does not take what {last} made"))
        x, last = call.output, call.name
    if x is not result or not isinstance(x, Tensor):
        raise CutError(_uncut(name, f"its features are not what {last} made"))


def _uncut(name: str, reason: str) -> str:
    return (
        f"backbone.name={name} cannot be cut into stages: {reason}. Choose a network whose layers "
        "run one after the other, such as resnet50, mobilenetv2_100, efficientnet_lite0, "
        "convnext_atto or regnety_004; backbone=timm_vit for ViTs"
    )


def _stages(trunk: dict[str, nn.Module], ends: list[str], whole: bool) -> dict[str, nn.Module]:
    """Stage s has the layers up to the one with `ends[s]`; the last takes the rest if `whole`."""
    names = list(trunk)
    stages: dict[str, nn.Module] = {}
    start = 0
    for end in ends:
        inside = [i for i, n in enumerate(names) if f"{end}.".startswith(f"{n}.")]
        stop = len(names) if whole and end == ends[-1] else (inside or [start - 1])[-1] + 1
        if stop <= start:
            raise CutError(f"backbone.out_indices: no separate layer ends behind {end}")
        parts = {n.replace(".", "_"): trunk[n] for n in names[start:stop]}
        stages[f"stage{len(stages) + 1}"] = nn.Sequential(OrderedDict(parts))
        start = stop
    return stages


@torch.no_grad()
def _shapes(stages: dict[str, nn.Module]) -> dict[str, torch.Size]:
    """Output shape of each stage for one image of `PROBE` x `PROBE` pixels."""
    network = nn.Sequential(*stages.values())
    training = network.training
    network.eval()
    x, shapes = _image(network), {}
    for name, stage in stages.items():
        x = stage(x)
        shapes[name] = x.shape
    network.train(training)
    return shapes


def _check_maps(name: str, shapes: dict[str, torch.Size], last_stride: int) -> None:
    sides = [PROBE]
    for stage, shape in shapes.items():
        if len(shape) != 4 or shape[2] != shape[3] or shape[2] > sides[-1]:
            raise CutError(
                _uncut(name, f"{stage} makes {tuple(shape)} of an image, not maps (1, C, h, w)")
            )
        sides.append(shape[2])
    if last_stride == 1 and sides[-1] != PROBE // 16:
        raise CutError(
            f"backbone.last_stride=1: the last stage of {name} is at 1/{PROBE // sides[-1]} with "
            "output_stride=16, not at 1/16; give backbone.last_stride=2"
        )


def _image(network: nn.Module) -> Tensor:
    """Noise from a separate generator."""
    device = next(network.parameters()).device
    if device.type == "meta":
        return torch.empty(1, 3, PROBE, PROBE, device=device)
    noise = torch.randn(
        1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0), device="cpu"
    )
    return noise.to(device)
