"""Names, numbers and sizes of a gallery as text, without torch."""

from __future__ import annotations

from reid_lab.files.regular import escaped
from reid_lab.output.console import NOTHING


def images(count: int) -> str:
    """1 -> '1 image', 2000 -> '2,000 images'."""
    return f"{count:,} image{'s' * (count != 1)}"


def memory(count: float) -> str:
    """512_000_000 -> '512 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def name(text: str) -> str:
    """The name of a person or camera; a dash if unknown."""
    return escaped(text) or NOTHING
