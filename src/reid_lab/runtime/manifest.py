"""`manifest.json` of an exported network: what its files are and what they take."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from reid_lab.errors import UserError
from reid_lab.results import write_json

MANIFEST, WHOLE, STAGES, INT8 = "manifest.json", "model.onnx", "stages", "int8"
FORMAT = 1
PIXELS = "pixels"  # the name of the network's input
Precision = Literal["float32", "int8"]


class ExportError(UserError):
    """What is wrong with an exported network, or with what it was given."""


@dataclass(frozen=True)
class Exit:
    """An exit: D of its embeddings, cumulative Mul-Adds an image, whether a stream may leave."""

    name: str
    dim: int
    mul_adds: int
    stream: bool


@dataclass(frozen=True)
class Stage:
    """A file of the chain: reads `inputs`, gives `outputs`, the last of which is its exit.

    The first stage reads `pixels`; the others read outputs of stages before, by name.
    """

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def exit(self) -> str:
        return self.outputs[-1]


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's images; the files hold all of it but the resizing.

    `image` is (height, width); `mean` and `std` are of channels in [0, 1].
    """

    image: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: str = "uint8 (N, height, width, 3) RGB"
    resize: str = "bilinear, antialiased"


@dataclass(frozen=True)
class Manifest:
    """All that is known of an export.

    Args:
        fingerprint: of weights, config, preprocessing and precision: embeddings of one
            fingerprint can be compared (see `reid_lab.checkpoint`).
        measured: what the export found when it was compared with PyTorch.
    """

    fingerprint: str
    precision: Precision
    preprocessing: Preprocessing
    exits: tuple[Exit, ...]
    stages: tuple[Stage, ...]
    versions: dict[str, str]
    measured: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(e.name for e in self.exits)

    def exit(self, name: str) -> Exit:
        """The exit of that name.

        Raises:
            ExportError: there is none; with those that there are.
        """
        for e in self.exits:
            if e.name == name:
                return e
        raise ExportError(f"exit {name!r} is none: choose one of {', '.join(self.names)}")

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, asdict(self))

    @staticmethod
    def read(folder: Path) -> Manifest:
        """The manifest in `folder`.

        Raises:
            ExportError: none there, one that cannot be read, or of a newer format.
        """
        path = folder / MANIFEST
        if not path.is_file():
            what = f"has no {MANIFEST}" if folder.is_dir() else "does not exist"
            raise ExportError(
                f"{folder} is no exported network, it {what}: make one with "
                "python -m reid_lab.export"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if int(content["format"]) > FORMAT:
                raise ExportError(
                    f"{folder} has format {content['format']}, this version reads up to {FORMAT}: "
                    "update reid_lab, or export again"
                )
            return _parsed(content)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ExportError):
                raise
            raise ExportError(
                f"{path} cannot be read ({type(error).__name__}: {error}): export again"
            ) from error


def _parsed(content: dict[str, Any]) -> Manifest:
    known = {f.name: content[f.name] for f in fields(Manifest)}
    known["preprocessing"] = Preprocessing(**_tuples(known["preprocessing"]))
    known["exits"] = tuple(Exit(**e) for e in known["exits"])
    known["stages"] = tuple(Stage(**_tuples(s)) for s in known["stages"])
    return Manifest(**known)


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
