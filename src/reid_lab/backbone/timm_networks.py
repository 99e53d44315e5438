"""Networks of timm: by name, with weights, for images with our normalisation."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import WeightsError, fetched, load_weights, read_state
from reid_lab.backbone.weights.load import OURS
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.errors import UserError, last_line
from reid_lab.optional import load

ALLOWED = (
    "allowed are imagenet, null (scratch), or the path of the state dict of timm's network or of "
    "a checkpoint of ours with this backbone"
)


class Renormalise(nn.Module):
    """Changes the normalisation of images from ImageNet's to that of a network's weights.

    Both are kept in checkpoints, since default weights may change between versions of timm.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        theirs, ours = torch.tensor([mean, std]), torch.tensor([MEAN, STD])
        scale, shift = ours[1] / theirs[1], (ours[0] - theirs[0]) / theirs[1]
        self.register_buffer("scale", scale.view(3, 1, 1))
        self.register_buffer("shift", shift.view(3, 1, 1))

    @classmethod
    def of(cls, network: nn.Module) -> Renormalise | None:
        """The change for a network of timm; None if it has our normalisation."""
        config: Any = network.pretrained_cfg
        mean, std = tuple(config.get("mean", MEAN)), tuple(config.get("std", STD))
        return None if (mean, std) == (MEAN, STD) else cls(mean, std)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same shape."""
        return images * self.scale + self.shift


def build(user: str, name: str, weights: str | Path | None, options: Mapping[str, Any]) -> Any:
    """Build a network of timm with its head, of which parts are used.

    Args:
        user: the feature that needs timm, for the error message.
        name: with or without the tag of its weights; no address of a hub.
        weights: `imagenet`, a path, or None. Checkpoints of this suite are left to `load_ours`.
        options: options of the network; unknown ones are refused.

    Raises:
        UserError: unknown network or option.
        WeightsError: the weights cannot be loaded.
    """
    timm = load("timm", user)
    if not timm.is_model(name):
        raise UserError(f"backbone.name={name}: timm has no such network{_nearest(timm, name)}")
    state = fetched(name) if weights == "imagenet" else None
    if weights not in (None, "imagenet"):
        state = read_state(Path(str(weights)).expanduser(), "weights", ALLOWED)
        if is_ours(state):
            weights = state = None
    try:
        network = timm.create_model(name, **options)
    except Exception as error:  # networks refuse options in any way
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        fix = "; give backbone.last_stride=2" if "output_stride" in options else ""
        raise UserError(
            f"backbone.name={name}: timm cannot build it{given and ' with '}{given} "
            f"({last_line(error)}){fix}"
        ) from error
    if weights is None:
        return network
    more: dict[str, Any] = {}
    if state is not None:
        overlay = {"state_dict": _with_head(network, state), "label_offset": 0}
        more = {"pretrained_cfg_overlay": overlay}
    try:
        return timm.create_model(name, pretrained=True, **more, **options)
    except Exception as error:
        if state is None:
            raise WeightsError(_not_fetched(network, error)) from error
        raise WeightsError(
            f"weights={weights}: of another network than {name} ({last_line(error)}); {ALLOWED}"
        ) from error


def load_ours(backbone: Backbone, weights: str | Path | None) -> None:
    """Load a checkpoint of this suite; other weights are loaded by `build`.

    Raises:
        WeightsError: it is of another network.
    """
    if weights in (None, "imagenet"):
        return
    state = read_state(Path(str(weights)).expanduser(), "weights", ALLOWED)
    if is_ours(state):
        load_weights(backbone, weights)


def is_ours(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith((OURS, "stages.")) for key in state)


def _with_head(network: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the network's classifier where its own is missing or has other classes.

    timm can then check strictly that no key is missing and none is left over.
    """
    names = network.pretrained_cfg.get("classifier") or ()
    names = (names,) if isinstance(names, str) else names
    heads = tuple(f"{name}." for name in names)
    own = {key: value for key, value in network.state_dict().items() if key.startswith(heads)}
    kept = {key: value for key, value in state.items() if key not in own}
    fitting = {k: state[k] for k, v in own.items() if k in state and state[k].shape == v.shape}
    return {**kept, **own, **fitting}


def _not_fetched(network: Any, error: Exception) -> str:
    config = network.pretrained_cfg
    name, hub = config.get("architecture"), config.get("hf_hub_id")
    if not hub and not config.get("url"):
        return (
            f"weights=imagenet: timm has no weights of {name}; give backbone.weights=null (scratch)"
        )
    source = f"model.safetensors of https://huggingface.co/{hub}" if hub else config["url"]
    return (
        f"weights=imagenet: cannot download timm's weights of {name} ({last_line(error)}). Fetch "
        f"{source} where there is a network and give backbone.weights=/path/to/the/file, or train "
        "from scratch with backbone.weights=null"
    )


def _nearest(timm: Any, name: str) -> str:
    names = timm.list_models()
    close = difflib.get_close_matches(name.split(".")[0], names, n=5, cutoff=0.5)
    similar = [known for known in names if name and known.startswith(name)][:5]
    found = dict.fromkeys([*close, *similar])
    return f"; nearest: {', '.join(found)}" if found else "; timm.list_models() has all names"
