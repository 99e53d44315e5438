"""Pydantic's errors of a request as: given value, allowed values, fix."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel
from starlette.requests import Request

from reid_lab.output.words import ABSENT, Problem, among, describe, element, nearest, not_finite

MAX_PROBLEMS = 5  # problems in a message
FIXES = {"images": 'curl -F images=@FILE, or JSON {"images": ["BASE64"]}'}


@dataclass(frozen=True)
class RequestField:
    """A field of a body, or a parameter: its annotation, default and meaning."""

    annotation: Any
    default: Any = ...  # none: it must be given
    meaning: str = ""

    @property
    def required(self) -> bool:
        return self.default is ...

    @property
    def allowed(self) -> str:
        """Allowed values in words, without the null for a missing value."""
        return describe(self.annotation).removesuffix(" or null")


Fields = Mapping[str, RequestField]


def fields_of(kind: type[BaseModel]) -> Fields:
    """The fields of a model, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: RequestField(
            hints[name],
            ... if field.is_required() else field.get_default(),
            field.description or "",
        )
        for name, field in kind.model_fields.items()
    }


def parameters_of(endpoint: Callable[..., Any]) -> Fields:
    """The parameters of a route, in its path and its query, by name."""
    hints = get_type_hints(endpoint, include_extras=True)
    found = inspect.signature(endpoint).parameters.values()
    return {
        p.name: RequestField(
            hints[p.name], ... if p.default is p.empty else p.default, meaning_of(hints[p.name])
        )
        for p in found
        if hints[p.name] is not Request
    }


def meaning_of(annotation: Any) -> str:
    """The description in an annotation; empty without one."""
    found = [getattr(m, "description", None) for m in getattr(annotation, "__metadata__", ())]
    return next((text for text in found if text), "")


def explained(
    errors: Sequence[Mapping[str, Any]], given: Mapping[str, Any], fields: Fields, what: str
) -> str:
    """All validation errors in one message, one line per error.

    Args:
        errors: pydantic's errors, whose `loc` begins with the name of a field.
        given: what was validated.
        what: word for a field in the message, such as "field".
    """
    lines = [_problem(error, given, fields, what).line for error in errors[:MAX_PROBLEMS]]
    more = len(errors) - len(lines)
    return "\n".join(lines + [f"and {more} more"] * (more > 0))


def unknown(name: str, given: Any, fields: Fields, what: str) -> Problem:
    """The problem of an unknown field."""
    name = name[:100]
    return Problem(name, given, among(what, fields), nearest(name, fields, "remove it"))


def _problem(
    error: Mapping[str, Any], given: Mapping[str, Any], fields: Fields, what: str
) -> Problem:
    name, *keys = error["loc"]
    if name not in fields:
        return unknown(str(name), _shown(given.get(name)), fields, what)
    field = fields[name]
    if name not in given:
        return Problem(name, ABSENT, field.allowed, FIXES.get(name, "add it"))
    annotation, value, location = field.annotation, given[name], [str(name)]
    for key in keys:
        try:
            annotation, value = element(annotation, value, key), value[key]
        except (LookupError, TypeError):
            break
        location.append(str(key))
    allowed = RequestField(annotation).allowed
    if not_finite(value):
        allowed = allowed.replace("number", "finite number", 1)
    return Problem(
        ".".join(location), _shown(value), allowed, _fix(field, len(location) == 1, name)
    )


def _shown(value: Any) -> Any:
    files = isinstance(value, list) and any(isinstance(item, bytes) for item in value)
    return "a file" if files or isinstance(value, bytes) else value


def _fix(field: RequestField, whole: bool, name: str) -> str:
    if name in FIXES:
        return FIXES[name]
    if not whole or field.required:
        return "correct it"
    if field.default is None or field.default == "":
        return "correct it, or leave it out"
    default = str(field.default).lower() if isinstance(field.default, bool) else field.default
    return f"correct it, or leave it out for {default}"
