"""An exported network, whole or stage by stage, by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_lab.runtime.images import read
from reid_lab.runtime.manifest import PIXELS, WHOLE, ExportError, Manifest

if TYPE_CHECKING:
    import onnxruntime

Values = dict[str, np.ndarray]  # by name, the images along axis 0
Leave = Callable[[str, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Streamed:
    """By which exit each of N images left, and with which embedding (D of that exit,)."""

    exits: list[str]
    embeddings: list[np.ndarray]


class Model:
    """The network in a folder that `python -m reid_lab.export` wrote.

    Args:
        threads: of one operator; 0 takes all cores.
        providers: of onnxruntime, the first that can be had is taken.

    Raises:
        ExportError: no export, one of a newer format, or files of two exports.
    """

    def __init__(
        self,
        folder: Path | str,
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        self.threads, self.providers = threads, list(providers)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def embed(self, pixels: np.ndarray) -> Values:
        """(N, H, W, 3) uint8 RGB -> every exit's embeddings (N, D) float32 by name."""
        self._check(pixels)
        names = self.manifest.names
        if not len(pixels):
            return {e.name: np.empty((0, e.dim), np.float32) for e in self.manifest.exits}
        found = self._session(WHOLE).run(list(names), {PIXELS: pixels})
        return dict(zip(names, found, strict=True))

    def embed_until(self, pixels: np.ndarray, exit: str) -> np.ndarray:
        """(N, D) float32 of one exit; the stages behind it do not run."""
        self._check(pixels)
        dim = self.manifest.exit(exit).dim
        if not len(pixels):
            return np.empty((0, dim), np.float32)
        values: Values = {PIXELS: pixels}
        for number, stage in enumerate(self.manifest.stages):
            values = self._run(number, values)
            if stage.exit == exit:
                break
        return values[exit]

    def stream(self, pixels: np.ndarray, leave: Leave) -> Streamed:
        """Early exit: the images that `leave` lets go are done, the others go on together.

        Args:
            pixels: (N, H, W, 3) uint8 RGB.
            leave: exit, embeddings (n, D) of the images that came so far -> (n,) bool. Asked at
                the exits that a stream may leave by but the last, where all leave.

        Returns:
            In the order of `pixels`.
        """
        self._check(pixels)
        exits, rows = [""] * len(pixels), [np.empty(0, np.float32)] * len(pixels)
        doors = [e.name for e in self.manifest.exits if e.stream]
        here, values = np.arange(len(pixels)), {PIXELS: pixels}
        for number, stage in enumerate(self.manifest.stages):
            if not len(here):
                break
            values = self._run(number, values)
            if stage.exit not in doors:
                continue
            found = values[stage.exit]
            gone = _asked(leave, stage.exit, found, last=stage.exit == doors[-1])
            for place, row in zip(here[gone], found[gone], strict=True):
                exits[place], rows[place] = stage.exit, row
            here, values = here[~gone], {name: x[~gone] for name, x in values.items()}
        return Streamed(exits, rows)

    def embed_files(self, paths: Sequence[Path | str], batch_size: int = 32) -> Values:
        """Image files -> every exit's embeddings (N, D) by name.

        Raises:
            ExportError: a file that is no image; it is named.
        """
        return _joined([self.embed(pixels) for pixels in self._batches(paths, batch_size)])

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the pixels that it takes."""
        return self.manifest.preprocessing.image

    def _batches(self, paths: Sequence[Path | str], size: int) -> Iterator[np.ndarray]:
        for start in range(0, max(len(paths), 1), size):
            yield read(paths[start : start + size], self.image)

    def _run(self, number: int, values: Values) -> Values:
        """What stage `number` gives, and of `values` what the stages behind it still read."""
        stages = self.manifest.stages
        stage = stages[number]
        given = {name: values[name] for name in stage.inputs}
        found = self._session(stage.file).run(list(stage.outputs), given)
        every = {**values, **dict(zip(stage.outputs, found, strict=True))}
        later = {name for s in stages[number + 1 :] for name in s.inputs} | {stage.exit}
        return {name: x for name, x in every.items() if name in later}

    def _session(self, file: str) -> onnxruntime.InferenceSession:
        """The file, opened once.

        Raises:
            ExportError: it is missing, no network, or of another export.
        """
        if file not in self._sessions:
            self._sessions[file] = self._opened(self.folder / file)
        return self._sessions[file]

    def _opened(self, path: Path) -> onnxruntime.InferenceSession:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ExportError(f"{error}: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3  # errors
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=self.providers)
        except Exception as error:  # onnxruntime's own have no common base
            raise ExportError(f"{path} cannot be opened ({error}): export again") from error
        found = session.get_modelmeta().custom_metadata_map.get("fingerprint", "none")
        if found != self.manifest.fingerprint:
            raise ExportError(
                f"{path} has the fingerprint {found[:12]}, the manifest beside it "
                f"{self.manifest.fingerprint[:12]}: they are of two exports, export again"
            )
        return session

    def _check(self, pixels: np.ndarray) -> None:
        wanted = (*self.image, 3)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != wanted:
            raise ExportError(
                f"pixels are {pixels.dtype} {pixels.shape}: this network takes uint8 "
                f"(N, {', '.join(map(str, wanted))}), RGB"
            )


def _asked(leave: Leave, exit: str, rows: np.ndarray, last: bool) -> np.ndarray:
    """(n,) bool, who leaves."""
    if last:
        return np.ones(len(rows), bool)
    gone = np.asarray(leave(exit, rows))
    if gone.shape != (len(rows),) or gone.dtype != bool:
        raise ExportError(
            f"leave({exit!r}, ...) gave {gone.dtype} {gone.shape}: it is to give bool "
            f"({len(rows)},), one for each image"
        )
    return gone


def _joined(parts: Sequence[Values]) -> Values:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
