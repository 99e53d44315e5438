"""Findings: errors, warnings and notes about a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reid_lab.errors import first
from reid_lab.files.regular import escaped

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """`error`: training or testing fails; `warning`: its results would mislead; or a `note`."""

    level: Level
    what: str
    fix: str = ""


def named(things: Iterable[object], between: str = ", ") -> str:
    """The first names, and whether there are more."""
    return between.join(first([escaped(str(thing)) for thing in things]))
