"""The classes that a checkpoint may name: the suite's and registered ones."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import reid_lab.backbone
import reid_lab.loss
import reid_lab.model
from reid_lab.checkpoint.read import CheckpointError
from reid_lab.errors import UserError

PLUGINS = "REID_LAB_PLUGINS"  # modules to import, separated by commas
T = TypeVar("T", bound=type)
_registered: dict[str, type] = {}


def register(cls: T) -> T:
    """Allow checkpoints to name a class from outside this package; a decorator.

    The module that calls it must be imported before the checkpoint is loaded. Commands import the
    modules listed in the environment variable `REID_LAB_PLUGINS`.
    """
    if not inspect.isclass(cls):
        raise TypeError(f"register takes a class, given {cls!r}")
    _registered[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return cls


def allowed_classes() -> dict[str, type]:
    """Dotted name -> class: the suite's methods, backbones and losses, and registered classes.

    Raises:
        UserError: a module of `REID_LAB_PLUGINS` cannot be imported.
    """
    import_plugins()
    allowed = dict(_registered)
    losses = {name: getattr(reid_lab.loss, name) for name in reid_lab.loss.__all__}
    losses = {name: part for name, part in losses.items() if inspect.isclass(part)}
    for package, parts in (
        ("reid_lab.model", reid_lab.model.METHODS),
        ("reid_lab.backbone", reid_lab.backbone.BACKBONES),
        ("reid_lab.loss", losses),
    ):
        for name, part in parts.items():
            allowed[f"{package}.{name}"] = part
            allowed[f"{part.__module__}.{part.__qualname__}"] = part
    return allowed


def import_plugins() -> None:
    """Import the modules listed in `REID_LAB_PLUGINS`, which register their classes.

    Raises:
        UserError: one of them cannot be imported.
    """
    listed = os.environ.get(PLUGINS, "")
    try:
        for name in filter(None, map(str.strip, listed.split(","))):
            importlib.import_module(name)
    except Exception as error:  # a module of the user's may raise anything
        raise UserError(
            f"{PLUGINS}={listed} cannot be imported ({type(error).__name__}: {error}); give "
            "modules that are on PYTHONPATH or installed, separated by commas"
        ) from error


def check_targets(config: Any, name: str = "model") -> None:
    """Check that a stored config names allowed classes only; nothing is imported or built.

    Raises:
        CheckpointError: a class is not allowed; the first is named.
    """
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "_target_":
                _check_target(value, f"{name}.{key}")
            elif key.startswith("_"):
                raise CheckpointError(
                    f"{name}.{key}: a checkpoint may hold _target_ and plain arguments only"
                )
            else:
                check_targets(value, f"{name}.{key}")
    elif isinstance(config, list | tuple):
        for index, value in enumerate(config):
            check_targets(value, f"{name}.{index}")


def _check_target(target: Any, name: str) -> None:
    if not isinstance(target, str) or target not in allowed_classes():
        raise CheckpointError(
            f"{name}={target!r} is not a class that a checkpoint may name: allowed are the "
            "methods, backbones and losses of reid_lab, and classes that a module of yours "
            f"registers with reid_lab.checkpoint.register; import it with {PLUGINS}=your.module"
        )


def construct(config: Any) -> Any:
    """Build the object of a checked config: `_target_` is the class, the rest its arguments."""
    if isinstance(config, list | tuple):
        return [construct(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = stated(config)
    built = {key: construct(value) for key, value in config.items() if key != "_target_"}
    return allowed_classes()[config["_target_"]](**built) if "_target_" in config else built


def stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with today's names, and with settings introduced after it was written."""
    target = allowed_classes().get(config.get("_target_", ""))
    names = getattr(target, "renamed", {})
    given = {names.get(key, key): value for key, value in config.items()}
    return {**getattr(target, "unstated", {}), **given}
