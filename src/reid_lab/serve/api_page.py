"""Documentation of the routes on one page, without scripts or other hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from html import escape
from typing import Any, get_args, get_origin, get_type_hints

from fastapi import FastAPI
from pydantic import BaseModel

from reid_lab.output.words import describe
from reid_lab.serve.bodies import ImagesBody
from reid_lab.serve.faults import operations
from reid_lab.serve.problems import Fields, fields_of, meaning_of, parameters_of

STYLE = """:root{color-scheme:light dark}
body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem}
h2{margin:2.2rem 0 0;font:600 1.1rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
p{margin:.2rem 0 .6rem}div{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;margin-bottom:.6rem}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{padding:.3rem .8rem .3rem 0;vertical-align:top;border-top:1px solid #8884;text-align:left}
td:first-child,td:nth-child(3):not(:last-child){font-family:ui-monospace,monospace}"""
HEAD = ("name", "type and range", "default", "meaning")


def api_page(app: FastAPI, bodies: Mapping[str, type[ImagesBody]]) -> str:
    """HTML documentation of every route: its parameters and its answer.

    Args:
        bodies: path of a POST route -> model of its body.
    """
    parts = []
    for route, method in operations(app):
        parts.append(
            f"<h2>{method} {escape(route.path_format)}</h2><p>{escape(route.description)}</p>"
        )
        parts.append(_table("Parameters", parameters_of(route.endpoint)))
        if route.path in bodies:
            parts.append(_table("Body", fields_of(bodies[route.path])))
        parts.append(_answer(route.response_model))
    return (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>reid-lab: routes</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<style>{STYLE}</style><h1>Routes</h1>"
        "<p>Bodies are multipart forms (images as files) or JSON (images as base64). Unknown "
        "fields and parameters are refused. HEAD is answered where GET is. The same for programs: "
        "<a href=/openapi.json>/openapi.json</a>.</p>" + "".join(parts) + "</html>"
    )


def _table(title: str, fields: Fields) -> str:
    if not fields:
        return ""
    rows = (
        (name, f.allowed, "required" if f.required else _shown(f.default), f.meaning)
        for name, f in fields.items()
    )
    return _html(title, HEAD, rows)


def _answer(kind: Any) -> str:
    """The fields of an answer, followed by those of its parts."""
    if not _is_object(kind):
        return ""
    return _html("Answer", ("name", "type", "meaning"), _named(kind, ""))


def _named(kind: type, above: str) -> Iterator[tuple[str, str, str]]:
    for name, hint in get_type_hints(kind, include_extras=True).items():
        part = next((k for k in _parts(hint) if _is_object(k)), None)
        lists = "list" if list in _parts(hint) else ""
        path = f"{above}{name}{'[]' if part and lists else ''}"
        kinds = ("a list of objects" if lists else "an object") if part else describe(hint)
        yield path, kinds, meaning_of(hint)
        if part:
            yield from _named(part, f"{path}.")


def _parts(hint: Any) -> Iterator[Any]:
    """The classes in an annotation."""
    yield get_origin(hint) or hint
    for part in get_args(hint):
        yield from _parts(part)


def _is_object(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))


def _shown(default: Any) -> str:
    if default is None or default == "":
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _html(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<div><table><caption>{title}</caption><tr>{top}</tr>{body}</table></div>"
