"""`summary.json`: what ran, on what, by which command, and its metrics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from reid_lab.files.stored import StoredFileError, printable, read_json
from reid_lab.files.tables import write_json
from reid_lab.results.cells import amount, line
from reid_lab.results.folder import SUMMARY


class Summary(BaseModel):
    """The last file of a test: a folder that has it is complete. Older runs lack some keys."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str | None = None
    task: str | None = None
    seed: int | None = None
    command: str | None = None
    commit: str | None = None
    machine: str | None = None
    versions: dict[str, Any] | None = None
    dataset: dict[str, str | dict[str, int | str | None]] | None = None
    metrics: dict[str, float | None] | None = None
    mul_adds: dict[str, FiniteFloat] | None = None
    protocol: dict[str, Any] | None = None
    shared_exit: str | None = None  # whose gallery embeddings all exits' queries meet
    notes: list[str] | None = None
    elapsed_s: FiniteFloat | None = None
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
        summary = Summary(**content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        given = f"{first['input']!r}"[:40]
        raise ValueError(f"{key} is {given}: {first['msg'].lower()}") from None
    for key in ("name", "task", "commit", "machine", "shared_exit"):
        line(key, getattr(summary, key) or "")
    for part, counts in (summary.dataset or {}).items():
        line(f"dataset.{part}", counts if isinstance(counts, str) else part)
        for key, count in counts.items() if isinstance(counts, dict) else ():
            if isinstance(count, int):
                amount(f"dataset.{part}.{key}", str(count))
    return summary
