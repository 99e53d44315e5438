"""Findings: errors, warnings and notes about a data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reid_lab.files.image_files import escaped

Level = Literal["error", "warning", "note"]
SHOWN = 5  # images or people that one finding names


@dataclass(frozen=True)
class Finding:
    """`error`: training or testing fails; `warning`: its results would mislead; or a `note`."""

    level: Level
    what: str
    fix: str = ""


def named(things: Iterable[object], between: str = ", ") -> str:
    """The first five names, and whether there are more."""
    listed = [escaped(str(thing)) for thing in things]
    return between.join([*listed[:SHOWN], *["..."] * (len(listed) > SHOWN)])
