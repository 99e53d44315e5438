"""What a backbone is: named stages, each with the number of channels it puts out."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from reid_lab.errors import UserError


class WeightsError(UserError):
    """Pre-trained weights cannot be had, and how to get them."""


class Backbone(nn.Module):
    """Stages that run one after the other; stage s puts out `channels[s]` feature maps.

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


def load_weights(
    network: nn.Module, weights: str | Path | None, imagenet: WeightsEnum | None, head: str
) -> None:
    """Load a torchvision network's weights: `imagenet`, a local file, or None for scratch.

    Args:
        head: prefix of the classifier's keys, which may be absent or of another size.

    Raises:
        WeightsError: they cannot be downloaded, or the file is missing or of another network.
    """
    if weights is None:
        return
    state = _download(imagenet) if weights == "imagenet" else _read(Path(weights).expanduser())
    state = {key: value for key, value in state.items() if not key.startswith(head)}
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"weights={weights}: of another network ({error})") from error
    missing = [key for key in missing if not key.startswith(head)]
    if missing or unexpected:
        raise WeightsError(
            f"weights={weights}: of another network; missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}: give a state dict of torchvision's network"
        )


def _download(imagenet: WeightsEnum | None) -> dict[str, Tensor]:
    if imagenet is None:
        raise WeightsError(
            "weights=imagenet: this backbone has no ImageNet weights; use weights=null (scratch) "
            "or a local file"
        )
    try:
        return imagenet.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise WeightsError(
            f"weights=imagenet: cannot download ({error}). Fetch {imagenet.url} where there is a "
            "network and give weights=/path/to/the/file.pth, or train from scratch with "
            "weights=null"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"weights={path}: no such file; allowed are imagenet, null (scratch), or "
            "the path of a torchvision state dict (.pth)"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is no state dict
        raise WeightsError(f"weights={path}: no state dict ({error})") from error
    return state.get("state_dict", state)
