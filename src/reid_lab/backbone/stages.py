"""Base class of backbones: named stages, each with its number of output channels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from reid_lab.errors import UserError

OURS = "backbone."  # what our methods' checkpoints call it
HEADS = ("fc.", "classifier.")  # torchvision's: may be absent, or of another size


class WeightsError(UserError):
    """Pre-trained weights cannot be loaded; the message says how to get them."""


class Backbone(nn.Module):
    """Stages that run one after the other; stage s has `channels[s]` output channels.

    Args:
        stages: name -> module, in the order in which they run.
        channels: of each stage's output.
    """

    def __init__(self, stages: dict[str, nn.Module], channels: tuple[int, ...]) -> None:
        super().__init__()
        if len(stages) != len(channels):
            raise ValueError(f"{len(stages)} stages but {len(channels)} numbers of channels")
        self.stages = nn.ModuleDict(OrderedDict(stages))
        self.channels = channels

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.stages)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> the last stage's (N, channels[-1], h, w)."""
        for stage in self.stages.values():
            x = stage(x)
        return x


class Published(NamedTuple):
    """A torchvision network whose parts are a backbone's stages.

    `imagenet` are its published weights. `rename` turns a key of its older files into today's.
    """

    network: nn.Module
    imagenet: WeightsEnum
    rename: Callable[[str], str] = str


def load_weights(
    backbone: Backbone, weights: str | Path | None, published: Published | None = None
) -> None:
    """Load a backbone's weights: `imagenet`, a local file, or None for scratch.

    A file holds a checkpoint of ours with the same backbone, that backbone's state dict, or
    that of the network it was `published` as, where it was.

    Raises:
        WeightsError: they cannot be downloaded, or the file is missing or of another network.
    """
    if weights is None:
        return
    allowed = _allowed(published)
    if weights == "imagenet":
        state = _download(published, allowed)
    else:
        state = read_state(Path(weights).expanduser(), "weights", allowed)
    ours = {k.removeprefix(OURS): v for k, v in state.items() if k.startswith((OURS, "stages."))}
    if ours or published is None:
        _load(backbone, ours or state, weights, allowed)
    else:
        renamed = {published.rename(key): value for key, value in state.items()}
        _load(published.network, renamed, weights, allowed)


def read_state(path: Path, key: str, allowed: str) -> dict[str, Tensor]:
    """The state dict in a file, by itself or in a checkpoint. `key` is where the user gave it.

    Raises:
        WeightsError: no such file, or no state dict; with what is `allowed`.
    """
    if not path.is_file():
        raise WeightsError(f"{key}={path}: no such file; {allowed}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    except Exception as error:  # torch raises many kinds for a file that is no state dict
        raise WeightsError(f"{key}={path}: no state dict ({error}); {allowed}") from error


def _load(network: nn.Module, state: dict[str, Tensor], weights: str | Path, allowed: str) -> None:
    body = {key: value for key, value in state.items() if not key.startswith(HEADS)}
    try:
        missing, unexpected = network.load_state_dict(body, strict=False)
    except RuntimeError as error:  # sizes; its last line names one
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"weights={weights}: of another network ({reason}); {allowed}"
        ) from error
    missing = [key for key in missing if not key.startswith(HEADS)]
    if missing or unexpected:
        raise WeightsError(
            f"weights={weights}: of another network; missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}; {allowed}"
        )


def _allowed(published: Published | None) -> str:
    if published is None:
        return "allowed are null (scratch), or the path of a checkpoint of ours with this backbone"
    return (
        "allowed are imagenet, null (scratch), or the path of the state dict of torchvision's "
        "network, or of a checkpoint of ours with this backbone"
    )


def _download(published: Published | None, allowed: str) -> dict[str, Tensor]:
    if published is None:
        raise WeightsError(f"weights=imagenet: none are published for this backbone; {allowed}")
    imagenet = published.imagenet
    try:
        return dict(imagenet.get_state_dict(progress=True, check_hash=True))
    except OSError as error:
        raise WeightsError(
            f"weights=imagenet: cannot download ({error}). Fetch {imagenet.url} where there is a "
            "network and give weights=/path/to/the/file.pth, or train from scratch with "
            "weights=null"
        ) from error
