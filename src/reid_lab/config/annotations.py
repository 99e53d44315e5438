"""Annotations of parameters: validated by pydantic against YAML, and described in words."""

from __future__ import annotations

import collections.abc as abc
import inspect
import types
import typing
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ConfigDict, InstanceOf, Strict, TypeAdapter, ValidationError

from reid_lab.config.lightning import RANGES
from reid_lab.output.words import is_union

NoneType = type(None)
PLAIN = (bool, int, float, str, NoneType, abc.Collection)  # YAML's own types
STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


@cache
def hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the parameters of `target`, without those that cannot be resolved.

    Annotations of Lightning's classes get the ranges of `lightning.py`.
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
    """Whether a plain YAML value fits the annotation; true if pydantic cannot check it."""
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
    """The annotation for values from YAML: strings for paths, lists for tuples, built objects."""
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
    if is_union(origin):
        return Union[inner]  # noqa: UP007
    rebuilt = origin[inner]
    return Annotated[rebuilt, Strict(False)] if origin in (tuple, set, frozenset) else rebuilt


def _instance(annotation: Any) -> Any:
    return Annotated[annotation, InstanceOf()]  # type: ignore[type-arg]
