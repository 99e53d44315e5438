"""Read the files of a run from an untrusted folder: plain values, of a bounded size.

A file never decides what runs. YAML with tags, aliases or interpolations and arrays with pickled
objects are refused; nothing is resolved, imported or instantiated.
"""

from __future__ import annotations

import csv
import io
import json
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reid_lab.errors import UserError

MIB = 2**20
# bytes that a file may have
YAML, JSON, TABLE, ARRAYS = MIB, 32 * MIB, 64 * MIB, 256 * MIB
DEPTH = 50  # depth of nested values
COLUMNS, ROWS = 1000, 100_000  # limits of a table
DIGITS = 24  # digits of an integer; a longer one is read as a float
# never in a text file, and not to be sent to a terminal
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class StoredFileError(UserError):
    """A file cannot be read; the reason is one line."""

    def __init__(self, path: Path, reason: object) -> None:
        super().__init__(f"{path}: {' '.join(str(reason).split())}")


def read_config(run: Path) -> dict[str, Any]:
    """The config that a run was started with.

    Raises:
        StoredFileError: it is missing, not a mapping of plain values, or not resolved.
    """
    path = run / "config.yaml"
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise StoredFileError(path, "expected a mapping at the top")
    for text in _texts(config):
        if "${" in text or text == "???":
            raise StoredFileError(path, f"{text[:40]!r} is not resolved, as what a run stores is")
    return config


def read_yaml(path: Path) -> Any:
    """Plain values from YAML.

    Raises:
        StoredFileError: it cannot be read, or has a tag, an alias or a duplicate key.
    """
    text = read_text(path, YAML)
    try:
        return printable(_plain(yaml.load(text, _PlainLoader)))
    except RecursionError:
        raise StoredFileError(path, f"nested deeper than {DEPTH} levels") from None
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise StoredFileError(path, f"not plain YAML: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; its texts may be file names, see `printable`.

    Raises:
        StoredFileError: it cannot be read, or holds something else.
    """
    text = read_text(path, JSON)
    try:
        content = _plain(json.loads(text, parse_int=_int))
    except RecursionError:
        raise StoredFileError(path, f"nested deeper than {DEPTH} levels") from None
    except ValueError as error:
        raise StoredFileError(path, f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise StoredFileError(path, "expected an object at the top")
    return content


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, with one cell per column.

    Raises:
        StoredFileError: it cannot be read, has no header, a duplicate column, or a row of another
            length, such as a truncated one.
    """
    rows = []
    for row in rows_of(path, read_text(path, TABLE)):
        rows.append(row)
        if len(rows) > ROWS:
            raise StoredFileError(path, f"more than {ROWS:,} rows")
    return rows


def rows_of(path: Path, text: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file's text; see `read_table`."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        _check_header(path, header)
        for line in lines:
            if len(line) == len(header):
                yield dict(zip(header, line, strict=True))
            elif line:  # empty lines are skipped
                counts = f"{len(line)} cells where the header has {len(header)}"
                raise StoredFileError(path, f"line {lines.line_num}: {counts}")
    except csv.Error as error:
        raise StoredFileError(path, f"line {lines.line_num}: {error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file.

    Raises:
        StoredFileError: it cannot be read, or holds Python objects.
    """
    _check(path, ARRAYS)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > ARRAYS:
            raise ValueError(f"{unpacked / MIB:,.0f} MiB unpacked, at most {ARRAYS / MIB:.0f} MiB")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy, zipfile and zlib raise what they like
        raise StoredFileError(path, f"not a file of arrays: {error}") from error


def read_text(path: Path, limit: int) -> str:
    """A file's text in UTF-8.

    Raises:
        StoredFileError: it is missing, not a file, larger than `limit` bytes, or not text.
    """
    _check(path, limit)
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)  # it may have grown
    except OSError as error:
        raise StoredFileError(path, error.strerror or error) from error
    if len(content) > limit:
        raise _too_large(path, len(content), limit)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoredFileError(path, f"not UTF-8 text (byte {error.start})") from error
    if found := CONTROL.search(text):
        raise StoredFileError(path, f"no text: it holds the character {found[0]!r}")
    return text


def printable(value: Any) -> Any:
    """The value with printable texts, as a file name may have any byte."""
    if isinstance(value, str):
        text = CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
        return text.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {printable(key): printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [printable(each) for each in value]
    return value


def _check(path: Path, limit: int) -> None:
    """Refuse pipes and devices, which may never end."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise StoredFileError(path, getattr(error, "strerror", None) or error) from error
    if not stat.S_ISREG(found.st_mode):
        raise StoredFileError(path, "a folder" if path.is_dir() else "not a regular file")
    if found.st_size > limit:
        raise _too_large(path, found.st_size, limit)


def _too_large(path: Path, size: int, limit: int) -> StoredFileError:
    return StoredFileError(path, f"{size / MIB:,.1f} MiB, at most {limit / MIB:,.0f} MiB are read")


def _check_header(path: Path, header: list[str]) -> None:
    if not any(header):
        raise StoredFileError(path, "no header" if header else "empty")
    if len(header) > COLUMNS:
        raise StoredFileError(path, f"{len(header):,} columns, at most {COLUMNS:,}")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise StoredFileError(path, f"duplicate column {twice[0]!r}")


def _int(digits: str) -> float:
    return int(digits) if len(digits) <= DIGITS else float(digits)


def _plain(value: Any, depth: int = 0) -> Any:
    """The value, which has to be made of text, numbers, truth values, null, lists and mappings."""
    if depth > DEPTH:
        raise ValueError(f"nested deeper than {DEPTH} levels")
    if isinstance(value, Mapping):
        for key, each in value.items():
            _plain(key, depth + 1)
            _plain(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _plain(each, depth + 1)
    elif not (value is None or isinstance(value, (str, int, float))):
        raise ValueError(f"a value of type {type(value).__name__}")
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


class _PlainLoader(yaml.SafeLoader):
    """Refuse duplicate keys, and aliases, which expand a short file to a large value."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"an alias, line {event.start_mark.line + 1}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = Counter(str(key.value) for key, _ in node.value)
        if keys and max(keys.values()) > 1:
            raise yaml.YAMLError(f"duplicate key {keys.most_common(1)[0][0][:40]!r}")
        return super().construct_mapping(node, deep)
