"""Compare the settings of runs: `ckpt_path=last` resumes only a run with equal ones."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reid_lab.config.relevance import role_of_setting
from reid_lab.errors import first
from reid_lab.files.stored import StoredFileError, read_config
from reid_lab.types import in_steps

MAKES_WEIGHTS = ("seed", "dataset", "backbone", "loss", "model")
FORMER = {"companions"}  # now multi_query, which only tests use


def different_settings(cfg: DictConfig, run: Path) -> str:
    """Settings that affect the weights and differ between a run and this config; empty if none.

    A config that cannot be resolved agrees with all runs; its check reports the error.
    """
    try:
        ours = _settings(cfg)
    except OmegaConfBaseException:
        return ""
    try:
        return differences(_settings(read_config(run)), ours)
    except StoredFileError as error:
        return f"no config.yaml that can be read ({error})"


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """Values of nested mappings that differ, such as `seed=1 (here 0)`.

    A setting that their config lacks counts with the default of their class; one with an old name
    as the one that has the new name.
    """
    theirs = _completed(theirs, ours)
    there, here = _flat(theirs), _flat(ours)
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    # what is referred to differs wherever it is used, too
    own = [key for key in keys if not any(key.endswith(f".{other}") for other in keys)]
    own.sort(key=lambda key: (not key.endswith("_target_"), key.count(".")))
    listed = [f"{key}={_shown(there.get(key))} (here {_shown(here.get(key))})" for key in own]
    return ", ".join(first(listed))


def _completed(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Their settings, with the names of today and defaults for those that only ours have."""
    found = dict(theirs)
    target = ours.get("_target_")
    if target and target == theirs.get("_target_") and ours.keys() - theirs.keys():
        found = {**_defaults(target, ours), **_renamed(target, theirs)}
    for key, value in ours.items():
        if isinstance(value, Mapping) and isinstance(theirs.get(key), Mapping):
            found[key] = _completed(theirs[key], value)
    return found


def _renamed(target: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    from hydra.utils import get_object

    names: Mapping[str, str] = getattr(get_object(target), "renamed", {})
    return {names.get(key, key): value for key, value in theirs.items()}


def _defaults(target: str, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of ours that a class or function has -> values in configs that lack them."""
    from hydra.utils import get_object

    built = get_object(target)
    parameters = inspect.signature(built).parameters.values()
    given = {p.name: p.default for p in parameters if p.default is not p.empty}
    given |= getattr(built, "unstated", {})
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if k in ours}


def _shown(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _settings(cfg: Any) -> dict[str, Any]:
    parts = {part: cfg.get(part) for part in MAKES_WEIGHTS}
    return {
        part: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for part, value in parts.items()
    }


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of the settings that affect the weights."""
    flat: dict[str, Any] = {}
    if "milestones" in node:
        node = in_steps(node)
    for key, value in node.items():
        if key in FORMER or role_of_setting(node, key) != "training":
            continue
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        elif (key, value) == ("p", "auto"):
            from reid_lab.dataset.sampler import AUTO_P  # imports torch, which --help does not need

            flat[f"{prefix}{key}"] = AUTO_P  # with fewer identities, a run of 18 does not exist
        else:
            flat[f"{prefix}{key}"] = value
    return flat
