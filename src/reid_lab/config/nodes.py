"""Values of a composed config, and the objects of its references and `_target_`s."""

from __future__ import annotations

import importlib
import pkgutil
import re
import types
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from reid_lab.output import words
from reid_lab.output.words import ABSENT

REFERENCE = re.compile(r"\$\{([^\s${}:.][^\s${}:]*)\}")  # `${a.b}` and nothing else
SELECT = re.compile(  # `${oc.select:a.b}`, or with a default
    r"\$\{oc\.select: *([^\s${}:.,][^\s${}:,]*) *(?:, *([^{}]*|\$\{.*\}) *)?\}"
)
MOST_STEPS = 20  # steps from reference to reference


class Unknown:
    """Placeholder of a value that has another problem, or is known only once it is built."""


class Built:
    """Placeholder of the object that a `_target_` node builds; isinstance accepts it as one."""

    def __init__(self, target: type, path: str) -> None:
        self.target, self.path = target, path

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self.target


def plain(parent: Any, key: Any, deferred: bool) -> Any:
    """A config value in plain types, references resolved; `Built` or `Unknown` for objects."""
    try:
        child = Unknown() if OmegaConf.is_missing(parent, key) else parent[key]
    except Exception:  # a reference that does not resolve
        return Unknown()
    if isinstance(child, DictConfig) and is_target(child):
        return Unknown() if deferred else built(child)
    if isinstance(child, DictConfig):
        return {name: plain(child, name, deferred) for name in child}
    if isinstance(child, ListConfig):
        return [plain(child, index, deferred) for index in range(len(child))]
    return child


def built(node: DictConfig) -> Built | Unknown:
    """Placeholder of what a node builds; `Unknown` for functions and uncalled classes."""
    try:
        path = node["_target_"]
        target = locate(path)
    except Exception:  # reported where it stands
        return Unknown()
    own = isinstance(target, type) and not issubclass(target, str | int | float | list | dict)
    return Built(target, path) if own and not flag(node, "_partial_", False) else Unknown()


def is_known(value: object) -> bool:
    """Whether a value has no unknown parts and no objects to build."""
    if type(value) in (list, dict):
        return all(map(is_known, value.values() if isinstance(value, dict) else value))  # type: ignore
    return type(value) not in (Unknown, Built)


def is_target(node: object) -> bool:
    """Whether Hydra calls something for this node."""
    return isinstance(node, DictConfig) and "_target_" in node


def flag(node: DictConfig, key: str, default: bool) -> bool:
    """One of Hydra's switches; the default if it is missing or not a boolean."""
    try:
        value = node.get(key, default)
    except Exception:
        return default
    return value if isinstance(value, bool) else default


def written_key(raw: Any, keys: Sequence[Any]) -> list[str]:
    """The key at which the value of `keys` is written: `lr` for `model.lr` if that is `${lr}`.

    Args:
        raw: the whole config in plain types, without resolving references.
    """
    here: list[str] = []
    for key in map(str, keys):
        here.append(key)
        for _ in range(MOST_STEPS):
            referred = _referred(raw, str(_at(raw, here)))
            if referred is None:
                break
            here = referred
    return here


def written_keys(raw: Any, above: Sequence[str]) -> Iterable[str]:
    """The dotted `written_key` of each value at and below `above`."""
    yield ".".join(written_key(raw, above))
    value = _at(raw, above)
    below = value if isinstance(value, dict) else range(len(value)) if type(value) is list else ()
    for key in map(str, below):
        yield from written_keys(raw, [*above, key])


def _referred(raw: Any, text: str) -> list[str] | None:
    """The keys whose value `${a.b}` or `${oc.select:a.b,...}` takes over; None for other text."""
    for _ in range(MOST_STEPS):
        if match := REFERENCE.fullmatch(text):
            return _keys(match[1])
        match = SELECT.fullmatch(text)
        if match is None:
            return None
        if _at(raw, _keys(match[1])) is not ABSENT:
            return _keys(match[1])
        text = match[2] or ""
    return None


def _keys(path: str) -> list[str]:
    return re.split(r"[.\[]", path.replace("]", ""))


def _at(value: Any, keys: Iterable[str]) -> Any:
    """The value at `keys`; `ABSENT` if there is none."""
    for key in keys:
        if isinstance(value, list):
            value = value[int(key)] if key.isdigit() and int(key) < len(value) else ABSENT
        else:
            value = value.get(key, ABSENT) if isinstance(value, dict) else ABSENT
    return value


def locate(path: str) -> Any:
    """Import the object at a dotted path.

    Raises:
        LookupError: the path cannot be imported; `args` hold what is allowed, and the fix.
    """
    found: Any = None
    done = ""
    for part in path.split("."):
        dotted = f"{done}.{part}".lstrip(".")
        has = found is not None and hasattr(found, part)
        found = getattr(found, part) if has else _import(dotted, found, done, part)
        done = dotted
    return found


def same_but_case(owner: Any, name: str) -> list[str]:
    """Classes and functions of `owner` whose names differ from `name` in capitals only."""
    alike = (other for other in dir(owner) if other.lower() == name.lower())
    return [other for other in alike if callable(getattr(owner, other))]


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
    if same := same_but_case(owner, part):
        raise LookupError(allowed, f"did you mean {done}.{same[0]}?")
    names = dir(owner) + [m.name for m in pkgutil.iter_modules(getattr(owner, "__path__", []))]
    fix = words.nearest(
        part, names, f"{done} has no {part}: name one of its classes or functions", done
    )
    raise LookupError(allowed, fix)
