"""Reports without the seconds that their pictures take."""

from __future__ import annotations

from typing import IO

from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

# in the environment of a command that `tests.launcher` forks
UNDRAWN = {"REID_LAB_TESTS_UNDRAWN": "1"}


def print_png(canvas: FigureCanvasAgg, target: IO[bytes], **_: object) -> None:
    """In place of matplotlib's: figures are made, but neither laid out nor drawn."""
    Image.new("RGB", (8, 8)).save(target, "PNG")
