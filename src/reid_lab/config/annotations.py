"""Annotations of parameters: as pydantic validates YAML against them, and described in words."""

from __future__ import annotations

import collections.abc as abc
import inspect
import json
import math
import types
import typing
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from annotated_types import Predicate
from pydantic import ConfigDict, InstanceOf, Strict, TypeAdapter, ValidationError

from reid_lab.config.lightning import RANGES

NoneType = type(None)
PLAIN = (bool, int, float, str, NoneType, abc.Collection)  # YAML's own types
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
_WORDS: dict[object, tuple[str, str]] = {  # one, many
    bool: ("true or false", "booleans"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
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


@cache
def hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of what `target` is called with, without those that cannot be resolved.

    Those of Lightning's own classes have the ranges of `lightning.py`.
    """
    classes = reversed(inspect.getmro(target)) if inspect.isclass(target) else ()
    ranges = [RANGES.get(f"{c.__module__}.{c.__qualname__}", {}) for c in classes]
    function: Any = target
    if inspect.isclass(target):
        function = target.__init__ if target.__init__ is not object.__init__ else target.__new__
    function = inspect.unwrap(function)
    found: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        holder: Any = types.SimpleNamespace(__annotations__={name: annotation})
        names = getattr(function, "__globals__", {})
        try:
            found |= typing.get_type_hints(holder, globalns=names, include_extras=True)
        except Exception:  # e.g. a name imported for type checkers only
            continue
    for limited in ranges:
        found |= {name: limited[name] for name in limited.keys() & found.keys()}
    return found


def accepts(annotation: Any, value: object) -> bool:
    """Whether a plain YAML value fits the annotation; true where pydantic cannot check it."""
    adapter = _adapter(annotation)
    try:
        if adapter is not None:
            adapter.validate_python([value])
    except ValidationError:
        return False
    except Exception:  # e.g. a protocol that cannot be checked at runtime
        return True
    return True


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    many: Any = list  # of one, since pydantic takes no `config` for a dataclass by itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return TypeAdapter(many[as_yaml(annotation)], config=STRICT)
        except Exception:  # not an annotation that pydantic knows
            return None


def known(annotation: Any) -> bool:
    """Whether pydantic can validate this annotation."""
    return _adapter(annotation) is not None


def as_yaml(annotation: Any) -> Any:
    """The annotation as YAML can meet it: strings for paths, lists for tuples, built objects."""
    if annotation is Path:
        return Path | str
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        parts = (as_yaml(args[0]), *annotation.__metadata__)
        return Annotated[parts]
    if origin is abc.Callable:
        return _instance(abc.Callable)
    if not args or origin in (Literal, type):
        if annotation is tuple:
            return Annotated[tuple, Strict(False)]
        is_object = isinstance(annotation, type) and not issubclass(annotation, PLAIN)
        built = is_object and annotation is not object  # by a `_target_` node
        return _instance(annotation) if built else annotation
    inner = tuple(as_yaml(arg) for arg in args)
    if _is_union(origin):
        return Union[inner]  # noqa: UP007
    rebuilt = origin[inner]
    return Annotated[rebuilt, Strict(False)] if origin in (tuple, set, frozenset) else rebuilt


def _instance(annotation: Any) -> Any:
    return Annotated[annotation, InstanceOf()]  # type: ignore[type-arg]


def options(annotation: Any) -> list[Any]:
    """The alternatives of a union, without limits; the annotation itself if it is no union."""
    if isinstance(annotation, TypeVar):
        return [Any]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return options(args[0])
    return [o for arg in args for o in options(arg)] if _is_union(origin) else [annotation]


def element(annotation: Any, container: list[Any] | dict[Any, Any], key: Any) -> Any:
    """The annotation of one element of a list or mapping; None where no such thing is accepted."""
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
    if _is_union(origin):
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
    found = [(sign, getattr(m, name, None)) for m in single for name, sign in _LIMITS.items()]
    limits = [
        f"{sign} {_number(n)}" for sign, n in found if n is not None and (sign, n) != _NO_LIMIT
    ]
    return limits + [str(m.func.__doc__) for m in single if isinstance(m, Predicate)]


def _number(limit: object) -> str:
    """1e+06 as people write it: 1000000; and 1e15."""
    if isinstance(limit, float) and limit.is_integer() and abs(limit) < 1e7:
        return str(int(limit))
    return f"{limit:g}".replace("e+", "e") if isinstance(limit, float) else str(limit)


def not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


_NO_LIMIT = (_LIMITS["min_length"], 0)


def _is_union(origin: Any) -> bool:
    return origin in (Union, types.UnionType)


def show(value: object) -> str:
    """A value as YAML has it: a string is bare where it cannot be taken for something else."""
    if isinstance(value, str):
        with suppress(yaml.YAMLError):
            if yaml.safe_load(value) == value:
                return value
    return json.dumps(value, default=str, ensure_ascii=False)
