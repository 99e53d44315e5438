"""Run an exported network, whole or stage by stage, by the engine of its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from reid_lab.budget.router import Indices, Mask, route
from reid_lab.cost.currency import ExitCosts
from reid_lab.errors import UserError, first_line
from reid_lab.output import arguments
from reid_lab.runtime.checks import (
    check_embeddings,
    check_facts,
    check_file,
    check_mask,
    check_pixels,
)
from reid_lab.runtime.engines import ENGINES, Engine
from reid_lab.runtime.images import read
from reid_lab.runtime.inputs import select_exits
from reid_lab.runtime.manifest import PIXELS, ExportError, Manifest

MOST_THREADS = 1024
Values = dict[str, np.ndarray]  # by name, the images along axis 0
ExitsHere = Callable[[str, np.ndarray], np.ndarray]


def _no_search(exit: str, embeddings: np.ndarray) -> None:
    """No search."""


@dataclass(frozen=True)
class Streamed:
    """The exit of each of N images, and its embedding (D,) there."""

    exits: list[str]
    embeddings: list[np.ndarray]


class Model:
    """The network in a folder that `reid-lab export` wrote.

    Args:
        folder: the export.
        threads: threads per operator; 0 takes all cores (TorchScript: torch's setting).
        providers: onnxruntime's execution providers; the first available one is used. Other
            formats run on the CPU.

    Raises:
        ExportError: not an export, a newer format, or files of two exports.
    """

    def __init__(
        self,
        folder: Path | str,
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        if not 0 <= threads <= MOST_THREADS:
            raise ExportError(f"threads={threads}: allowed are 0 (all cores) to {MOST_THREADS}")
        self.folder = arguments.path("folder", folder)
        self.manifest = Manifest.read(self.folder)
        self.threads, self.providers = threads, list(providers)
        self._engines: dict[str, Engine] = {}

    def embed(self, pixels: np.ndarray, exits: Sequence[str] | str | None = None) -> Values:
        """Embed (N, H, W, 3) uint8 RGB: exit -> (N, D) float32.

        Args:
            pixels: images at the network's input size.
            exits: names of exits; stages behind the last of them are not run. None: all exits.
        """
        self.check(pixels)
        names = select_exits(exits, self.manifest.names)
        if not len(pixels):
            return {name: self._none(name) for name in names}
        if names[-1] == self.manifest.names[-1] and not self.manifest.chained:
            return self._ran(self.manifest.whole, names, {PIXELS: pixels})
        return self._staged(pixels, names)

    def embed_until(self, pixels: np.ndarray, exit: str) -> np.ndarray:
        """(N, D) float32 embeddings of one exit; later stages do not run."""
        self.check(pixels)
        none = self._none(exit)
        return self._staged(pixels, [exit])[exit] if len(pixels) else none

    def _none(self, exit: str) -> np.ndarray:
        """The embeddings of no image, (0, D)."""
        return np.empty((0, self.manifest.exit(exit).dim), np.float32)

    def _staged(self, pixels: np.ndarray, names: Sequence[str]) -> Values:
        """The exits `names`, stage by stage up to the last of them."""
        found: Values = {}
        values: Values = {PIXELS: pixels}
        for number, stage in enumerate(self.manifest.stages):
            values = self._run(number, values)
            if stage.exit in names:
                found[stage.exit] = values[stage.exit]
            if len(found) == len(names):
                break
        return found

    def stream(self, pixels: np.ndarray, exits_here: ExitsHere) -> Streamed:
        """Embed with early exit: after each exit, only the remaining images continue.

        Args:
            pixels: (N, H, W, 3) uint8 RGB.
            exits_here: called with the name of an exit and the embeddings (n, D) of the remaining
                images; returns (n,) bool, whether each exits. Called at each stream exit but the
                last, where all exit. To use a rule of `reid_lab.budget.stream`, call its
                `exits_here` with your confidences.

        Returns:
            The exits and embeddings, in the order of `pixels`.
        """
        self.check(pixels)
        names, rows = [""] * len(pixels), [np.empty(0, np.float32)] * len(pixels)
        exits, values = self.manifest.stream_exits, {PIXELS: pixels}

        def advance(s: int, remaining: Indices, kept: Indices) -> np.ndarray:
            nonlocal values
            if s:
                values = {name: x[kept] for name, x in values.items()}
            values = self.advance(s, values)
            return values[exits[s]]

        def decide(s: int, remaining: Indices, embeddings: np.ndarray) -> Mask:
            return self.mask(exits[s], exits_here, embeddings)

        for exited in route(len(pixels), len(exits), advance, decide):
            for i, row in zip(exited.queries.tolist(), exited.rows, strict=True):
                names[i], rows[i] = exits[exited.exit], row
        return Streamed(names, rows)

    def advance(self, s: int, values: Values) -> Values:
        """Run the stages after stream exit `s` - 1 (from the pixels: 0) to `s`.

        Args:
            values: inputs by name, images along axis 0: `pixels`, or what the previous exit
                returned.

        Returns:
            The values that later stages read, and the embeddings at `s`.
        """
        exits, stages = self.manifest.stream_exits, self.manifest.stages
        ends = [number for number, stage in enumerate(stages) if stage.exit in exits]
        for number in range(ends[s - 1] + 1 if s else 0, ends[s] + 1):
            values = self._run(number, values)
        return values

    def mask(self, exit: str, exits_here: ExitsHere, embeddings: np.ndarray) -> Mask:
        """(n,) bool, which images exit.

        Raises:
            ExportError: `exits_here` returned something else.
        """
        return check_mask(exit, np.asarray(exits_here(exit, embeddings)), len(embeddings))

    def measure_exits(
        self,
        batch: int = 1,
        passes: int = 20,
        match: Callable[[str, np.ndarray], object] = _no_search,
        exits: Sequence[str] | None = None,
    ) -> ExitCosts:
        """Measure the cost of a query at each exit on this machine, in milliseconds.

        `reid_lab.budget.stream.planned_rule` plans a mean budget with it. Costs are medians over
        passes in which all images of a batch run to the last exit.

        Args:
            batch: batch size.
            passes: number of passes, after one warm-up pass.
            match: called like `exits_here`, with the name of an exit and embeddings (n, D): the
                gallery search for a decision and an answer.
            exits: exits in the network's order; None takes those of a stream.
        """
        names = tuple(exits or self.manifest.stream_exits)
        pixels = np.random.default_rng(0).integers(0, 256, (batch, *self.image, 3), np.uint8)
        taken = np.array([self._time_stages(pixels, names, match) for _ in range(passes + 1)])
        medians = 1e3 * np.median(taken[1:], axis=0) / batch  # (S, 2)
        return ExitCosts("latency", names, np.cumsum(medians[:, 0]), medians[:, 1])

    def _time_stages(
        self,
        pixels: np.ndarray,
        names: Sequence[str],
        match: Callable[[str, np.ndarray], object],
    ) -> list[tuple[float, float]]:
        """Seconds of the stages up to each exit, and of its `match`."""
        values: Values = {PIXELS: pixels}
        found = []
        start = perf_counter()
        for number, stage in enumerate(self.manifest.stages):
            values = self._run(number, values)
            if stage.exit in names:
                embedded = perf_counter()
                match(stage.exit, values[stage.exit])
                matched = perf_counter()
                found.append((embedded - start, matched - embedded))
                start = matched
        return found

    def embed_files(self, paths: Sequence[Path | str], batch_size: int = 32) -> Values:
        """Image files -> every exit's embeddings (N, D) by name.

        Raises:
            ExportError: a file cannot be read; it is named.
        """
        self.open_whole()
        return _joined([self.embed(pixels) for pixels in self._batches(paths, batch_size)])

    def open_whole(self) -> None:
        """Open all files that `embed` runs, so that errors are raised before images are read.

        Raises:
            ExportError: it is missing, damaged, not a network, or of another export.
        """
        stages = [stage.file for stage in self.manifest.stages]
        for file in stages if self.manifest.chained else [self.manifest.whole]:
            self._engine(file)

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.manifest.preprocessing.image

    def _batches(self, paths: Sequence[Path | str], size: int) -> Iterator[np.ndarray]:
        for start in range(0, max(len(paths), 1), size):
            yield read(paths[start : start + size], self.image)

    def _run(self, number: int, values: Values) -> Values:
        """Run stage `number`: its outputs, and the `values` that later stages read."""
        stages = self.manifest.stages
        stage = stages[number]
        given = {name: values[name] for name in stage.inputs}
        every = {**values, **self._ran(stage.file, stage.outputs, given)}
        later = {name for s in stages[number + 1 :] for name in s.inputs} | {stage.exit}
        return {name: x for name, x in every.items() if name in later}

    def _ran(self, file: str, names: Sequence[str], given: Values) -> Values:
        """Run a file: its outputs `names`.

        Raises:
            ExportError: it fails, or its embeddings do not fit the manifest or are not finite.
        """
        engine = self._engine(file)
        try:
            found = dict(zip(names, engine.run(names, given), strict=True))
        except Exception as error:  # the engines' errors have no common base
            raise ExportError(
                f"{self.folder / file} cannot be run ({first_line(error)}): export again"
            ) from error
        count = len(next(iter(given.values())))
        for e in self.manifest.exits:
            if e.name in found:
                check_embeddings(self.folder / file, e, found[e.name], count)
        return found

    def _engine(self, file: str) -> Engine:
        """Open a file, once.

        Raises:
            ExportError: it is missing, damaged, not a network, or of another export.
            MissingPackageError: its engine is not installed.
        """
        if file not in self._engines:
            self._engines[file] = self._opened(file)
        return self._engines[file]

    def _opened(self, file: str) -> Engine:
        path = self.folder / file
        check_file(self.folder, file, self.manifest)
        try:
            engine = ENGINES[self.manifest.file_format](path, self.threads, self.providers)
        except UserError:
            raise
        except Exception as error:  # the engines' errors have no common base
            raise ExportError(
                f"{path} cannot be opened ({first_line(error)}): export again"
            ) from error
        check_facts(path, engine, self.manifest)
        return engine

    def check(self, pixels: np.ndarray) -> None:
        """Check a batch.

        Raises:
            ExportError: it is not (N, H, W, 3) uint8 of the network's size.
        """
        check_pixels(pixels, self.image)


def _joined(parts: Sequence[Values]) -> Values:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
