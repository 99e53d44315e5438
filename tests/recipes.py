"""Every recipe as a command: the files of conf/experiment, and those that are overrides now."""

from __future__ import annotations

import shlex

from omegaconf import OmegaConf

from reid_lab.config.choices import choices, conf_dir
from reid_lab.config.renamed import REMOVED

RECIPES: dict[str, list[str]] = {  # name -> overrides
    **{name: [f"+experiment={name}"] for name in choices("experiment")},
    **{name: shlex.split(words) for name, words in REMOVED["experiment"].items()},
}


def model_of(name: str) -> str:
    """The choice of the group `model` of a recipe."""
    (experiment, *words) = RECIPES[name]
    given = [word.removeprefix("model=") for word in words if word.startswith("model=")]
    return given[-1] if given else _model_of(experiment.removeprefix("+experiment="))


def _model_of(experiment: str) -> str:
    choice = "dare"  # of config.yaml
    raw = OmegaConf.load(conf_dir() / "experiment" / f"{experiment}.yaml")
    for entry in raw.get("defaults", []):
        choice = (
            _model_of(entry) if isinstance(entry, str) else entry.get("override /model", choice)
        )
    return choice
