"""`summary.json`: what ran, on what, by which command, and its metrics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, ValidationError

from reid_lab.files.stored import StoredFileError, printable, read_json
from reid_lab.files.tables import write_json
from reid_lab.results.cells import LARGEST, LONGEST
from reid_lab.results.folder import SUMMARY


def _one_line(text: str) -> str:
    if len(text.splitlines()) > 1:
        raise ValueError("it has several lines")
    return text


Line = Annotated[str, MaxLen(LONGEST), AfterValidator(_one_line)]
Number = Annotated[int, Ge(0), Le(int(LARGEST))]
Amount = Annotated[FiniteFloat, Ge(0), Le(LARGEST)]


class Summary(BaseModel):
    """The last file of a test: a folder that has it is complete. Older runs lack some keys."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Line | None = None
    task: Line | None = None
    seed: Number | None = None
    command: str | None = None
    commit: Line | None = None
    machine: Line | None = None
    versions: dict[str, Any] | None = None
    dataset: dict[Line, Line | dict[str, Number | str | None]] | None = None
    metrics: dict[str, float | None] | None = None
    mul_adds: dict[str, Amount] | None = None
    protocol: dict[str, Any] | None = None
    shared_exit: Line | None = None  # all queries are compared with its gallery
    notes: list[str] | None = None
    elapsed_s: Amount | None = None  # of all parts of a run that was resumed
    training: dict[str, Any] | None = None
    card: dict[str, Any] | None = None

    @property
    def content(self) -> dict[str, Any]:
        """The keys that are known, in plain types."""
        content = self.model_dump(exclude_unset=True)
        if self.mul_adds is not None:  # counts, which pydantic makes floats
            content["mul_adds"] = {name: round(count) for name, count in self.mul_adds.items()}
        return content

    def write(self, folder: Path) -> None:
        """Write it to a folder of results."""
        write_json(folder / SUMMARY, self.content)

    @classmethod
    def read(cls, folder: Path) -> Summary:
        """Read the summary of a folder of results; an empty one if there is no such file.

        Raises:
            StoredFileError: a value has another type, is negative or too long.
        """
        path = folder / SUMMARY
        if not os.path.lexists(path):
            return cls()
        try:
            return _checked(printable(read_json(path)))
        except ValueError as error:
            if isinstance(error, StoredFileError):
                raise
            raise StoredFileError(path, error) from error


def _checked(content: dict[str, Any]) -> Summary:
    try:
        return Summary(**content)
    except ValidationError as error:
        # a value that is of no type of a union has an error for each, the longest the most exact
        first = max(error.errors(include_url=False), key=lambda e: len(e["loc"]))
        given: Any = content
        keys: list[str] = []
        for key in first["loc"]:  # names of pydantic's types are among them
            if isinstance(given, dict) and key in given:
                given = given[key]
                keys.append(str(key))
        shown, why = f"{first['input']!r}"[:40], first["msg"].lower()
        raise ValueError(
            f"{'.'.join(keys)} is {shown}: {why.removeprefix('value error, ')}"
        ) from None
