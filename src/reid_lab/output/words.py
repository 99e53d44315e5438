"""Descriptions of allowed values, and errors with them: given, allowed, fix.

For configs and for requests to the service. Without torch and YAML, which a service lacks.
"""

from __future__ import annotations

import collections.abc as abc
import difflib
import json
import math
import types
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Predicate

NoneType = type(None)
_WORDS: dict[object, tuple[str, str]] = {  # one, many
    bool: ("true or false", "booleans"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    bytes: ("a file", "files"),
    Path: ("a path", "paths"),
    NoneType: ("null", "nulls"),
    dict: ("a mapping", "mappings"),
    list: ("a list", "lists"),
    tuple: ("a list", "lists"),
}
_NODE = "`_target_` node of "
_LIMITS = {
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "multiple_of": "a multiple of",
    "min_length": "of length >=",
    "max_length": "of length <=",
}
ABSENT = "(absent)"


@dataclass(frozen=True)
class Problem:
    """One error of a config or a request.

    `key` is dotted, as on the command line; `given` is its value (`ABSENT` if missing), `allowed`
    describes the allowed values, and `fix` says what to do.
    """

    key: str
    given: object
    allowed: str
    fix: str

    def __str__(self) -> str:
        given = show(self.given)
        given = given if len(given) <= 200 else given[:197] + "..."
        lines = {"given": given, "allowed": self.allowed, "fix": self.fix}
        return "\n".join([self.key, *(f"  {name:<8} {text}" for name, text in lines.items())])

    @property
    def line(self) -> str:
        """The problem in one line, with the value in JSON."""
        try:
            given = ABSENT if self.given == ABSENT else json.dumps(self.given, default=str)
        except RecursionError:
            given = f"a {type(self.given).__name__}"
        given = given if len(given) <= 60 else given[:57] + "..."
        return f"{self.key}: given {given}; allowed: {self.allowed}; fix: {self.fix}"


def among(what: str, names: Iterable[str]) -> str:
    """The allowed names, for things of the kind `what`."""
    listed = ", ".join(names)
    return f"one of the {what}s: {listed}" if listed else f"no {what} at all"


def nearest(wrong: str, names: Iterable[str], otherwise: str, owner: str = "") -> str:
    """Advice to use the name closest to the wrong one, else `otherwise`."""
    close = difflib.get_close_matches(wrong, list(names), n=1)
    return f"did you mean {owner}{'.' * bool(owner)}{close[0]}?" if close else otherwise


def options(annotation: Any) -> list[Any]:
    """The alternatives of a union, without limits; the annotation itself if it is no union."""
    if isinstance(annotation, TypeVar):
        return [Any]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return options(args[0])
    return [o for arg in args for o in options(arg)] if is_union(origin) else [annotation]


def element(annotation: Any, container: list[Any] | dict[Any, Any], key: Any) -> Any:
    """The annotation of an element of a list or mapping; None if neither is accepted."""
    found: list[Any] = []
    for option in options(annotation):
        base, args = get_origin(option) or option, get_args(option)
        if base in (Any, object):
            return Any
        holds = base in (tuple, set, frozenset) and isinstance(container, list)
        if not holds and not (isinstance(base, type) and issubclass(type(container), base)):
            continue
        if isinstance(container, dict):
            found.append(args[1] if len(args) == 2 else Any)
        elif base is tuple and args and args[-1] is not Ellipsis:
            found.append(args[key] if key < len(args) else Any)
        else:
            found.append(args[0] if args else Any)
    return Union[tuple(found)] if found else None  # noqa: UP007


def choices(annotation: Any) -> list[Any]:
    """All values of the annotation's Literals."""
    return [v for o in options(annotation) if get_origin(o) is Literal for v in get_args(o)]


def describe(annotation: Any, many: bool = False) -> str:
    """The annotation in words, such as `a number > 0 or null`, or `a list of integers >= 1`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = " and ".join(_limits(annotation.__metadata__))
        return f"{describe(args[0], many)} {limits}".rstrip()
    if is_union(origin):
        return _describe_union(annotation, args, many)
    if origin is Literal:
        return ("values of: " if many else "one of: ") + ", ".join(map(show, args))
    if annotation in (Any, object) or isinstance(annotation, TypeVar):
        return "anything"
    base = origin or annotation
    if base is abc.Callable:
        return "callables" if many else "a callable (a `_target_` node)"
    if args and isinstance(base, type):
        return _describe_container(base, args, many)
    if base in _WORDS:
        return _WORDS[base][many]
    name = f"{base.__module__}.{base.__qualname__}" if isinstance(base, type) else str(base)
    return f"`_target_` nodes of {name}" if many else f"a {_NODE}{name}"


def _describe_union(annotation: Any, args: tuple[Any, ...], many: bool) -> str:
    values = choices(annotation)
    rest = [a for a in args if get_origin(a) is not Literal]
    if float in rest and int in rest:
        rest.remove(int)
    rest.sort(key=lambda a: a is NoneType)  # null comes last
    parts = [describe(Literal[tuple(values)], many)] if values else []
    nodes = 0
    for part in dict.fromkeys(describe(a, many) for a in rest):
        nodes += part.startswith(f"a {_NODE}")
        parts.append(part.removeprefix(f"a {_NODE}") if nodes > 1 else part)
    return " or ".join(parts)


def _describe_container(base: type, args: tuple[Any, ...], many: bool) -> str:
    if len(args) == 2 and issubclass(dict, base):
        kind = "mappings" if many else "a mapping"
        return f"{kind} of {describe(args[0], True)} to {describe(args[1], True)}"
    kind = "lists" if many else "a list"
    if base is tuple and args[-1] is not Ellipsis:
        return f"{kind} of {len(args)}: {', '.join(map(describe, args))}"
    return f"{kind} of {describe(args[0], True)}"


def _limits(metadata: tuple[Any, ...]) -> list[str]:
    single = [m for field in metadata for m in getattr(field, "metadata", [field])]
    named = ((sign, getattr(m, name, None)) for m in single for name, sign in _LIMITS.items())
    found = [(sign, n) for sign, n in named if n is not None]
    limits = [f"{sign} {_number(n)}" for sign, n in found if (sign, n) != _NO_LIMIT]
    least, most = (dict(found).get(_LIMITS[name]) for name in ("min_length", "max_length"))
    if least and least == most:
        limits = [f"of length {least}"]
    return limits + [str(m.func.__doc__) for m in single if isinstance(m, Predicate)]


def _number(limit: object) -> str:
    """A number in plain form: 1000000 for 1e+06; but 1e15."""
    if isinstance(limit, float) and limit.is_integer() and abs(limit) < 1e7:
        return str(int(limit))
    return f"{limit:g}".replace("e+", "e") if isinstance(limit, float) else str(limit)


def not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


_NO_LIMIT = (_LIMITS["min_length"], 0)


def is_union(origin: Any) -> bool:
    return origin in (Union, types.UnionType)


def show(value: object) -> str:
    """A value in YAML; strings are unquoted if that is unambiguous.

    In JSON if YAML is not installed, as for a service.
    """
    if isinstance(value, str):
        try:
            import yaml
        except ImportError:
            return json.dumps(value, ensure_ascii=False)
        with suppress(yaml.YAMLError):
            if yaml.safe_load(value) == value:
                return value
    return json.dumps(value, default=str, ensure_ascii=False)
