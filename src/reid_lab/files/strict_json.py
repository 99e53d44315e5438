"""Untrusted JSON files: read within limits, with every field checked before use.

Without torch, as the runtime reads its files with it, too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from reid_lab.errors import UserError
from reid_lab.files.folders import restore
from reid_lab.files.regular import no_file

MOST_BYTES = 1 << 24  # size of a file that is read as a whole
LISTED = 5  # wrong fields that one message names
Kind = TypeVar("Kind")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: the file is too large, nested too deeply or not a JSON object, or has NaN,
            infinity or a duplicate key.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise UserError(f"{path} has {size:,} bytes, at most {MOST_BYTES:,} are read")
    try:
        content = json.loads(
            path.read_bytes().decode(),
            object_pairs_hook=_once,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError:
        raise UserError(f"{path} cannot be read: it is nested too deeply") from None
    except ValueError as error:  # of JSON, UTF-8, and integers of thousands of digits
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a JSON object")
    return content


def file_in(folder: Path, name: str, what: str, fix: str, kind: type[UserError]) -> Path:
    """The file that describes `folder`.

    Raises:
        UserError: a `kind`, if the file is missing, so that `folder` is not `what`.
    """
    restore(folder)
    path = folder / name
    if not path.is_file():
        why = f"has no {name}" if folder.is_dir() else no_file(folder)
        why = "is a file" if folder.is_file() else why
        raise kind(f"{folder} is not {what}, it {why}: {fix}")
    return path


def check_format(path: Path, content: dict[str, Any], newest: int) -> None:
    """Check that this version can read the format of a file.

    Raises:
        UserError: not a whole number from 1, or a newer format.
    """
    given = content.get("format")
    if type(given) is not int or given < 1:
        raise UserError(f"{path} has format={given!r}, a whole number from 1 is expected")
    if given > newest:
        raise UserError(
            f"{path.parent} has format {given}, this version reads up to {newest}: update "
            "reid_lab, or write the folder again with this version"
        )


def checked(
    path: Path,
    content: dict[str, Any],
    kind: type[Kind],
    optional: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> Kind:
    """`content` as a dataclass; types are not converted, unknown fields are ignored.

    Args:
        optional: fields that may be missing; all others must be given, even with a default.
        renamed: name of a field in older files -> its name.

    Raises:
        UserError: a field is missing, of another type, or out of range.
    """
    content = {(renamed or {}).get(name, name): value for name, value in content.items()}
    missing = {f.name for f in fields(kind)} - {*content, *optional}  # type: ignore[arg-type]
    if missing:
        raise UserError(f"{path} is not valid: {', '.join(sorted(missing))} is missing")
    adapter: TypeAdapter[Kind] = _adapter(kind)  # type: ignore[arg-type]  # a class is hashable
    try:
        return adapter.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        problems = [_problem(e) for e in error.errors(include_url=False)]
        more = [f"and {len(problems) - LISTED} more"] * (len(problems) > LISTED)
        raise UserError(f"{path} is not valid: {'; '.join(problems[:LISTED] + more)}") from error


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _problem(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    what = str(error.get("ctx", {}).get("error", error["msg"]))
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "value_error":  # of several fields
        return what
    given = repr(error["input"])
    return f"{where}={given if len(given) <= 60 else given[:57] + '...'}: {what}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in content if keys.count(key) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return content


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is out of range")
    return number
