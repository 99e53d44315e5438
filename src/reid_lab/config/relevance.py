"""What the settings of a run change: weights, accuracies, other measurements, or none of these.

Callbacks declare it as their `role`, parameters by an annotation, see `reid_lab.types.Has`. What is
in conf/ is looked up in a table of these, as importing torch and Lightning takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from reid_lab.config.roles import CALLBACKS, PARAMETERS, RENAMED, SELECTING
from reid_lab.types import Has, Role

DECLARING = ("reid_lab.callbacks.", "reid_lab.dataset.")
# nodes that have a `_target_`, except in configs that were shortened by hand
USUAL = {
    "dataset": "reid_lab.dataset.ReidDataModule",
    "dataset.transforms": "reid_lab.dataset.Transforms",
}


def role_of_callback(node: Mapping[str, Any]) -> Role:
    """The role of a callback by its node in a config; `training` if it declares none."""
    target = str(node.get("_target_"))
    role: Role = _declared_by(target, "role", CALLBACKS.get(target), "training")
    return "training" if _monitors(node) else role


def selects_weights(node: Mapping[str, Any]) -> bool:
    """Whether a callback may select weights by validation: it declares so, or has a `monitor`."""
    target = str(node.get("_target_"))
    known = target in SELECTING if target in CALLBACKS else None
    return bool(_declared_by(target, "selects_weights", known, False)) or _monitors(node)


def _declared_by(target: str, attribute: str, known: Any, default: Any) -> Any:
    """What the table has of a callback; else what its class declares."""
    return getattr(_target(target), attribute, default) if known is None else known


def _monitors(node: Mapping[str, Any]) -> bool:
    return node.get("monitor") is not None


def role_of_setting(node: Mapping[str, Any], name: str, path: str = "") -> Role:
    """The role of a parameter of a node in a config; `training` if it declares none.

    Args:
        node: the values of the node, and its `_target_`.
        name: the parameter.
        path: dotted key of the node.
    """
    target = node.get("_target_", USUAL.get(path))
    if target is None:
        return "training"
    known = PARAMETERS.get(str(target))
    return (declared(str(target)) if known is None else known).get(name, "training")


def new_names(node: Mapping[str, Any], path: str = "") -> Mapping[str, str]:
    """Old name -> new name of the parameters of a node in a config; see `role_of_setting`."""
    return RENAMED.get(str(node.get("_target_", USUAL.get(path))), {})


@cache
def declared(target: str) -> Mapping[str, Role]:
    """The roles that the parameters of a class or function declare, by name."""
    from reid_lab.config.annotations import hints  # imports pydantic, which --help does not need

    found = _target(target)
    every = hints(found) if callable(found) else {}
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in every.items()}
    return {name: m.role for name, own in marks.items() for m in own if isinstance(m, Has)}


def _target(path: str) -> Any:
    """What a `_target_` names, if it can declare roles; nothing else is imported."""
    module, _, name = path.rpartition(".")
    if not path.startswith(DECLARING):
        return None
    try:
        return getattr(import_module(module), name, None)
    except ImportError:  # of another version
        return None
