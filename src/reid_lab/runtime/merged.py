"""Early exit over many small batches: images that remain after an exit are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from time import perf_counter

import numpy as np

from reid_lab.budget.router import Indices
from reid_lab.runtime.manifest import PIXELS, ExportError
from reid_lab.runtime.model import ExitsHere, Model, Values


@dataclass(frozen=True)
class Answer:
    """An image that has exited: its embedding (D,) at its exit.

    `number` counts the images in the order of arrival, from 0.
    """

    number: int
    exit: str
    embedding: np.ndarray


class MergedStream:
    """Runs stages on full batches, whose images may have arrived in several batches.

    Small batches cost more per image. Exits and embeddings equal those of `Model.stream` if the
    engine's embeddings do not depend on the batch size.

    Args:
        model: an export.
        exits_here: see `Model.stream`.
        full: batch size of the stages.
        wait: seconds after which an image is not held back for a full batch any longer. This is
            checked when a batch arrives; an empty batch is allowed and only does this check.
        clock: returns the time in seconds.

    Raises:
        ExportError: `full` below 1, `wait` below 0, or an export without early exits.
    """

    def __init__(
        self,
        model: Model,
        exits_here: ExitsHere,
        full: int = 32,
        wait: float = inf,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        if full < 1 or not wait >= 0:
            raise ExportError(f"full={full}, wait={wait}: full is 1 or more, wait 0 s or more")
        if not model.manifest.stream_exits:
            raise ExportError(f"{model.folder} has no early exits: use embed")
        self.model, self.exits_here = model, exits_here
        self.full, self.wait, self.clock = full, wait, clock
        self._stages: list[_Waiting | None] = [None] * len(model.manifest.stream_exits)
        self._count = 0

    def __call__(self, batches: Iterable[np.ndarray]) -> Iterator[Answer]:
        """Batches (N, H, W, 3) uint8 RGB -> an answer for each image, as soon as possible.

        Lazy. After the last batch, all images run to their exits.
        """
        for pixels in batches:
            self.model.check(pixels)
            numbers = np.arange(self._count, self._count + len(pixels))
            self._count += len(pixels)
            if len(pixels):
                times = np.full(len(pixels), self.clock())
                self._add(0, _Waiting({PIXELS: pixels}, numbers, times))
            while (s := self._ready()) is not None:
                yield from self._step(s)
        for s in range(len(self._stages)):
            while self._stages[s] is not None:
                yield from self._step(s)

    def _add(self, s: int, part: _Waiting) -> None:
        before = self._stages[s]
        self._stages[s] = part if before is None else before.joined(part)

    def _ready(self) -> int | None:
        """The last stage with a full batch, so that few images are held, or with a late image."""
        late = self.clock() - self.wait
        for s in reversed(range(len(self._stages))):
            part = self._stages[s]
            if part is not None and (len(part.numbers) >= self.full or part.times.min() <= late):
                return s
        return None

    def _step(self, s: int) -> Iterator[Answer]:
        """Run a stage on the images that have waited longest: answers for those that exit."""
        waiting, exit = self._stages[s], self.model.manifest.stream_exits[s]
        assert waiting is not None
        order = np.argsort(waiting.numbers)
        part = waiting.take(order[: self.full])
        self._stages[s] = waiting.take(order[self.full :]) if len(order) > self.full else None
        values = self.model.advance(s, part.values)
        rows = values[exit]
        out = np.ones(len(rows), dtype=bool)
        if s < len(self._stages) - 1:
            out = self.model.mask(exit, self.exits_here, rows)
        kept = np.flatnonzero(~out)
        if len(kept):
            self._add(s + 1, _Waiting(values, part.numbers, part.times).take(kept))
        for i in np.flatnonzero(out).tolist():
            yield Answer(int(part.numbers[i]), exit, rows[i])


@dataclass(frozen=True)
class _Waiting:
    """n images that wait for a stage: its inputs, their numbers and arrival times (n,)."""

    values: Values
    numbers: Indices
    times: np.ndarray

    def take(self, rows: Indices) -> _Waiting:
        values = {name: x[rows] for name, x in self.values.items()}
        return _Waiting(values, self.numbers[rows], self.times[rows])

    def joined(self, other: _Waiting) -> _Waiting:
        values = {name: np.concatenate([x, other.values[name]]) for name, x in self.values.items()}
        return _Waiting(
            values,
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.times, other.times]),
        )
