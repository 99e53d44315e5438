"""Reports without the seconds that their pictures take."""

from __future__ import annotations

from typing import IO

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but neither laid out nor drawn, which is what takes the time."""

    def save(canvas: FigureCanvasAgg, target: IO[bytes], **_: object) -> None:
        Image.new("RGB", (8, 8)).save(target, "PNG")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", save)
