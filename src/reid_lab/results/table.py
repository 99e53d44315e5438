"""A CSV file whose rows have one type: one writer and one reader for all tables."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, TypeVar

from reid_lab.files.atomic import write_text
from reid_lab.files.stored import StoredFileError, read_table
from reid_lab.results.cells import CASTS, LONGEST, line

Row = TypeVar("Row")


def _cell(value: object) -> object:
    """The text of a value; blank for an unknown number."""
    return "" if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class Table(Generic[Row]):
    """A CSV file of `row`s, whose fields are its columns in order, inherited ones last.

    A field with a default may be missing in a file, as in older runs; unknown columns are ignored.
    Blank numbers are nan, or 0 for integers.

    Args:
        file: name of the file in a folder of results.
        row: a frozen dataclass; the annotations of its fields say how a cell is read, see
            `cells.CASTS`.
        spread: a field that is a mapping -> the pattern of its columns, such as share_*; the
            part before the * is not in the mapping's keys. The first pattern that fits counts.
        check: checks all rows together; returns them or raises ValueError.
        cell: converts a value to text.
        longest: maximum length of a text.
        renamed: columns of older files -> their names.
    """

    file: str
    row: type[Row]
    spread: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[list[Row]], list[Row]] = list
    cell: Callable[[object], object] = _cell
    longest: int = LONGEST
    renamed: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        """Write the file atomically."""
        write_text(path, self.text(rows))

    def read(self, path: Path) -> list[Row]:
        """The rows of a file; empty if there is no such file.

        Raises:
            StoredFileError: a cell is malformed; its row is named.
        """
        if not os.path.lexists(path):
            return []
        rows = [self._row(cells, path, i) for i, cells in enumerate(read_table(path), 1)]
        try:
            return self.check(rows)
        except ValueError as error:
            raise StoredFileError(path, error) from error

    def of(self, mappings: Iterable[Mapping[str, Any]]) -> list[Row]:
        """Rows from values by column name, such as those that a sweep computes."""
        return [
            self._made(mapping, lambda kind, _, value: _typed(kind, value)) for mapping in mappings
        ]

    def columns(self, rows: Sequence[Row]) -> list[str]:
        """The header of these rows."""
        return list(dict.fromkeys(name for row in rows for name in self.flat(row)))

    def flat(self, row: Row) -> dict[str, Any]:
        """A row's values by column name."""
        values: dict[str, Any] = {}
        for name in self._kinds:
            value = getattr(row, name)
            if name in self.spread:
                values |= {self._prefix(name) + key: each for key, each in value.items()}
            else:
                values[name] = value
        return values

    def text(self, rows: Sequence[Row], **front: Sequence[str]) -> str:
        """The CSV text; `front`: names of columns in front of those of the rows."""
        labels = [
            dict(zip(front, cells, strict=True)) for cells in zip(*front.values(), strict=True)
        ]
        lines = [
            {**label, **{name: self.cell(value) for name, value in self.flat(row).items()}}
            for label, row in zip(labels or [{}] * len(rows), rows, strict=True)
        ]
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, [*front, *self.columns(rows)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return buffer.getvalue()

    @property
    def _kinds(self) -> dict[str, str]:
        """Field -> annotated type; fields of base classes come last."""
        kinds = {f.name: str(f.type) for f in fields(self.row)}  # type: ignore[arg-type]
        order = (name for c in self.row.__mro__ for name in c.__dict__.get("__annotations__", ()))
        return {name: kinds[name] for name in dict.fromkeys(order)}

    def _prefix(self, name: str) -> str:
        return self.spread[name].split("*")[0]

    def _row(self, cells: Mapping[str, str], path: Path, row_number: int) -> Row:
        try:
            named = {self.renamed.get(column, column): text for column, text in cells.items()}
            return self._made(named, self._cast)
        except KeyError as error:
            raise StoredFileError(path, f"no column {error}") from error
        except ValueError as error:
            raise StoredFileError(path, f"row {row_number}: {error}") from error

    def _made(self, cells: Mapping[str, Any], cast: Callable[[str, str, Any], Any]) -> Row:
        values: dict[str, Any] = {}
        for f in fields(self.row):  # type: ignore[arg-type]
            if f.name in self.spread:
                continue
            if f.name in cells or f.default is MISSING:
                values[f.name] = cast(str(f.type), f.name, cells[f.name])
        kinds = self._kinds
        for name in self.spread:
            values[name] = {}
        for column in (name for name in cells if self.spread and name not in kinds):
            for name in [n for n, p in self.spread.items() if fnmatchcase(column, p)][:1]:
                kind = kinds[name].removeprefix("dict[str, ").removesuffix("]")
                key = column.removeprefix(self._prefix(name))
                values[name][key] = cast(kind, column, cells[column])
        return self.row(**values)

    def _cast(self, kind: str, name: str, text: str) -> Any:
        return line(name, text, self.longest) if kind == "str" else CASTS[kind](name, text)


def _typed(kind: str, value: Any) -> Any:
    """Values already have the type of their column, except for names, which may be numbers."""
    return str(value) if kind == "str" else value
