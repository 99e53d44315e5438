"""Reading the nodes of a config: their keys, values, homes, and the targets that they name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import types
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, ListConfig
from omegaconf.base import Container, Node


class Unknown:
    """Stands for a value that has a problem of its own, or comes to life only when built."""


def plain(parent: Container, key: Any) -> Any:
    """A value in plain Python, with `_target_` nodes as they are."""
    try:
        node = raw(parent, key)._dereference_node()
    except Exception:  # reported by walk
        return Unknown()
    if node._is_missing():
        return Unknown()
    if node._is_none() or not isinstance(node, Container):
        return node._value()
    if is_target(node):
        return Unknown() if is_deferred(parent) else node
    if isinstance(node, DictConfig):
        return {child: plain(node, child) for child in node}
    return [plain(node, index) for index in keys_of(node)]


def locate(path: str) -> Any:
    """Import what a dotted path names.

    Raises:
        LookupError: there is no such thing; `args` are what is allowed, and the fix.
    """
    found: Any = None
    done = ""
    for part in path.split("."):
        dotted = f"{done}.{part}".lstrip(".")
        has = found is not None and hasattr(found, part)
        found = getattr(found, part) if has else _import(dotted, found, done, part)
        done = dotted
    return found


def _import(dotted: str, owner: Any, done: str, part: str) -> Any:
    allowed = "a dotted path that can be imported"
    try:
        if owner is None or isinstance(owner, types.ModuleType):
            return importlib.import_module(dotted)
    except Exception as error:
        if getattr(error, "name", None) != dotted:
            raise LookupError(allowed, f"its import fails: {error}") from error
    if owner is None:
        raise LookupError(allowed, f"install the package {part}, or correct its name")
    names = dir(owner) + [m.name for m in pkgutil.iter_modules(getattr(owner, "__path__", []))]
    fix = nearest(part, names, f"{done} has no {part}: name one of its classes or functions", done)
    raise LookupError(allowed, fix)


def nearest(wrong: str, names: Iterable[str], otherwise: str, owner: str = "") -> str:
    """Advice to use the name most like the wrong one, or else `otherwise`."""
    close = difflib.get_close_matches(wrong, list(names), n=1)
    return f"did you mean {owner}{'.' * bool(owner)}{close[0]}?" if close else otherwise


def is_target(node: object) -> bool:
    """Whether Hydra calls something for this node."""
    return isinstance(node, DictConfig) and not node._is_none() and "_target_" in node


def is_partial(node: DictConfig) -> bool:
    """Whether the target gets the rest of its arguments later, in code."""
    return is_target(node) and _flag(node, "_partial_", False) is True


def is_deferred(node: Container | None) -> bool:
    """Whether Hydra leaves what is below `node` to the code that gets it."""
    while node is not None:
        if isinstance(node, DictConfig) and _flag(node, "_recursive_", True) is False:
            return True
        node = node._get_parent_container()
    return False


def _flag(node: DictConfig, key: str, default: bool) -> object:
    try:
        return node.get(key, default)
    except Exception:  # missing or unresolved: reported elsewhere
        return default


def is_plain(value: object) -> bool:
    """Whether a value of `plain` has neither targets nor unknown parts."""
    if isinstance(value, list | dict):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, Unknown | DictConfig)


def keys_of(node: Container) -> list[Any]:
    """The keys of a mapping, the indices of a list."""
    return list(range(len(node))) if isinstance(node, ListConfig) else list(node)


def raw(parent: Container, key: Any) -> Node:
    """The node itself, even if it is an interpolation."""
    node = parent._get_node(key)
    assert isinstance(node, Node)
    return node


def dotted_key(node: Node, key: Any = None) -> str:
    """The key of a node, or of what it has under `key`, as it is typed on the command line."""
    parts = [] if key is None else [str(key)]
    above: Node | None = node
    while above is not None and above._key() is not None:
        parts.insert(0, str(above._key()))
        above = above._get_parent_container()
    return ".".join(parts)


def home_key(parent: Container, key: Any) -> str:
    """The key where a value stands that may be referred to by an interpolation."""
    with suppress(Exception):
        return dotted_key(raw(parent, key)._dereference_node())
    return dotted_key(parent, key)
