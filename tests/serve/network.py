"""A network of two exits whose embeddings are mean colours: no weights, no onnxruntime."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reid_lab.budget.router import route
from reid_lab.cost.currency import ExitCosts
from reid_lab.runtime.manifest import ExportedExit, Manifest, Preprocessing
from reid_lab.runtime.model import Streamed

SIZE = (16, 8)
EXITS = (ExportedExit("early", 3, 1_000, True), ExportedExit("late", 6, 4_000, True))


class Colours:
    """Stands for `reid_lab.runtime.Model`.

    Args:
        seconds: that each of the two stages takes.
    """

    image, folder = SIZE, Path("exported")

    def __init__(self, fingerprint: str = "colours", seconds: float = 0.0) -> None:
        plain = Preprocessing(SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.manifest = Manifest(fingerprint, "float32", plain, EXITS, (), {})
        self.seconds = seconds
        self.batches: list[int] = []

    def open_whole(self) -> None:
        pass

    def embed(
        self, pixels: np.ndarray, exits: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        names = exits or [e.name for e in EXITS]
        return {name: self._embedded(name, pixels) for name in names}

    def _embedded(self, exit: str, pixels: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds)
        scaled = pixels.astype(np.float32) / 255
        whole = scaled.mean((1, 2))
        return whole if exit == "early" else np.hstack([whole, scaled[:, :8].mean((1, 2))])

    def stream(
        self, pixels: np.ndarray, exits_here: Callable[[str, np.ndarray], np.ndarray]
    ) -> Streamed:
        self.batches.append(len(pixels))
        names, rows = [""] * len(pixels), [np.empty(0)] * len(pixels)
        for exited in route(
            len(pixels),
            2,
            lambda s, remaining, kept: self._embedded(EXITS[s].name, pixels[remaining]),
            lambda s, remaining, found: exits_here(EXITS[s].name, found),
        ):
            for i, row in zip(exited.queries.tolist(), exited.rows, strict=True):
                names[i], rows[i] = EXITS[exited.exit].name, row
        return Streamed(names, rows)

    def measure_exits(
        self,
        batch: int,
        passes: int,
        match: Callable[[str, np.ndarray], object],
        exits: Sequence[str],
    ) -> ExitCosts:
        for exit in exits:
            match(exit, self._embedded(exit, np.ones((batch, *SIZE, 3), np.uint8)))
        ms = 1e3 * max(self.seconds, 1e-6) / batch * np.arange(1, len(exits) + 1)
        return ExitCosts("latency", tuple(exits), ms, np.zeros(len(exits)))


class Gate(Colours):
    """Waits with a batch until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.taken, self.opened = threading.Semaphore(0), threading.Semaphore(0)
        self.shut = False

    def stream(self, pixels: np.ndarray, exits_here: Any) -> Any:
        if self.shut:
            self.taken.release()
            assert self.opened.acquire(timeout=10)
        return super().stream(pixels, exits_here)


def plain(*colour: int) -> np.ndarray:
    """(16, 8, 3) of one colour."""
    return np.full((*SIZE, 3), colour, np.uint8)


def png(*colour: int, size: tuple[int, int] = SIZE[::-1]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()
