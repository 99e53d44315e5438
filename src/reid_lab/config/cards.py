"""The model card in a run's checkpoints, and the weights that it started from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from reid_lab.backbone.weights.load import StartedFrom
from reid_lab.checkpoint import card_of
from reid_lab.config.make import plain
from reid_lab.model import ReidModule
from reid_lab.model.distilled import Distilled
from reid_lab.results.card import UNKNOWN, ModelCard, licence_of
from reid_lab.results.provenance import commit


def give_card(
    model: ReidModule, cfg: DictConfig, data: str, state: Mapping[str, Any] | None
) -> None:
    """Give a model the card that its checkpoints keep; in a test, that of the tested checkpoint.

    Args:
        data: name of the data set.
        state: state of the checkpoint that is tested or resumed.
    """
    if cfg.task != "fit":
        model.card = card_of(state or {})
        return
    files = {start.weights: start.card for start in _files_of(model)}
    if isinstance(model, Distilled) and model.teacher is not None:
        files[cfg.model.teacher] = model.teacher.module.card
    started = list(dict.fromkeys(_started_from(plain(cfg.model))))
    cards = [_card_in(source, files.get(source)) for source in started]
    model.card = ModelCard(
        data=data,
        data_licence=licence_of(data),
        pretraining="; ".join(card.data for card in cards) or "none",
        pretraining_licence="; ".join(card.data_licence for card in cards) or UNKNOWN,
        recipe=str(cfg.name),
        commit=commit(),
    )
    model.hparams["card"] = model.card.to_dict()


def changed_backbones(model: ReidModule, cfg: DictConfig) -> list[str]:
    """Notes on settings of a backbone that differ from those of the checkpoint with its weights.

    One is the last stride: weights fit any stride, but the features differ.
    """
    notes = []
    given = cfg.get("backbone") or {}
    for start in _files_of(model):
        if given.get("weights") == start.weights:
            notes += [
                f"backbone.weights={start.weights} was trained with backbone.{key}={value}, here "
                f"it is {given[key]}"
                for key, value in start.backbone.items()
                if key not in ("_target_", "weights") and key in given and given[key] != value
            ]
    return notes


def _files_of(model: ReidModule) -> list[StartedFrom]:
    """The weights files that the parts of a model started from."""
    found = [getattr(module, "started_from", None) for module in model.modules()]
    return [start for start in found if isinstance(start, StartedFrom)]


def _started_from(config: Any) -> Iterator[str]:
    """The weights that a model's config starts from, including a teacher's."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key in ("weights", "teacher") and isinstance(value, str):
                yield value
            else:
                yield from _started_from(value)
    elif isinstance(config, list):
        for value in config:
            yield from _started_from(value)


def _card_in(source: str, card: ModelCard | None) -> ModelCard:
    """The card of weights: `imagenet`, or a file; its name if it has no card."""
    if source == "imagenet":
        return ModelCard(data="ImageNet-1K", data_licence=licence_of("imagenet"))
    name = Path(source).name
    return replace(card, data=f"{name}, trained on {card.data}") if card else ModelCard(name)
