"""`manifest.json` of an exported network: its files, inputs and exits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from reid_lab.errors import UserError
from reid_lab.files import outputs
from reid_lab.files.strict_json import check_format, checked, file_in, read_json
from reid_lab.files.tables import write_json
from reid_lab.gallery_format.card import MAX_DIM
from reid_lab.openset.thresholds import AcceptThresholdsByExit
from reid_lab.types import Side

MANIFEST, STAGES, INT8 = outputs.MANIFEST, outputs.STAGES, "int8"
FileFormat = Literal["onnx", "openvino", "torchscript", "tflite"]
SUFFIXES: dict[FileFormat, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torchscript": ".pt",
    "tflite": ".tflite",
}
DATA = ".data"  # behind the name of an ONNX file whose weights lie beside it
FORMAT = 1
PIXELS = "pixels"  # the name of the network's input
Precision = Literal["float32", "int8"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ExportError(UserError):
    """An exported network that cannot be used, or inputs that it cannot take."""


@dataclass(frozen=True)
class ExportedExit:
    """An exit: D, cumulative Mul-Adds per image, and whether a stream may exit there."""

    name: Name
    dim: Annotated[int, Field(ge=1, le=MAX_DIM)]
    mul_adds: Annotated[int, Field(ge=0)]
    stream: bool


@dataclass(frozen=True)
class Stage:
    """A file of the chain: it reads `inputs` and returns `outputs`, the last of which is its exit.

    The first stage reads `pixels`; the others read outputs of earlier stages, by name.
    """

    # in the export's folder, as `reid_lab.export` names it; `$` would match before a line's end
    file: Annotated[
        str,
        Field(max_length=300, pattern=rf"\A{STAGES}/\d+_[A-Za-z0-9._-]+\.(onnx|xml|pt|tflite)\z"),
    ]
    inputs: Annotated[tuple[Name, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Name, ...], Field(min_length=1)]

    @property
    def exit(self) -> str:
        return self.outputs[-1]


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become the network's input; the files include all of it but the resizing.

    `image` is (height, width); `mean` and `std` are for channels in [0, 1].
    """

    image: tuple[Side, Side]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]
    layout: Literal["uint8 (N, height, width, 3) RGB"] = "uint8 (N, height, width, 3) RGB"
    resize: Literal["bilinear, antialiased"] = "bilinear, antialiased"


@dataclass(frozen=True)
class Manifest:
    """The description of an export.

    Args:
        fingerprint: hash of weights, config, preprocessing and precision; embeddings with the same
            fingerprint can be compared (see `reid_lab.checkpoint`).
        measured: results of the comparison with PyTorch.
        crc32: checksum of each file, by name; empty in older exports, whose files are not checked.
        card: the training data, their terms, pre-training and recipe (`reid_lab.results.card`).
        file_format: format of the network's files; older exports are ONNX.
        accept_thresholds: thresholds for false-accept rates of people held out from the training.
        shared_exit: exit whose gallery embeddings serve the queries of every exit; None: each exit
            has its own gallery embeddings.
    """

    fingerprint: Name
    precision: Precision
    preprocessing: Preprocessing
    exits: Annotated[tuple[ExportedExit, ...], Field(min_length=1, max_length=1000)]
    stages: tuple[Stage, ...]
    versions: dict[str, str]
    measured: dict[str, Any] = field(default_factory=dict)
    crc32: dict[str, Annotated[int, Field(ge=0, lt=2**32)]] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)
    shared_exit: Name | None = None
    format: int = FORMAT
    file_format: FileFormat = "onnx"
    accept_thresholds: AcceptThresholdsByExit = field(default_factory=dict)

    @property
    def whole(self) -> str:
        """The file of the whole network."""
        return whole_file(self.file_format)

    @property
    def chained(self) -> bool:
        """Whether the export has stages only. OpenVINO would move the rounding of a whole INT8
        network across stage boundaries, so that embeddings would differ with and without early
        exit.
        """
        return self.file_format == "openvino" and self.precision == "int8"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(e.name for e in self.exits)

    @property
    def stream_exits(self) -> tuple[str, ...]:
        """The exits at which an image may exit early, and the last of them."""
        return tuple(e.name for e in self.exits if e.stream)

    @property
    def gallery_exits(self) -> tuple[str, ...]:
        """The exits whose embeddings of gallery images a stream needs."""
        if self.shared_exit is not None:
            return (self.shared_exit,)
        return self.stream_exits or self.names[-1:]

    def exit(self, name: str) -> ExportedExit:
        """The exit of that name.

        Raises:
            ExportError: an unknown name; the message lists the available ones.
        """
        for e in self.exits:
            if e.name == name:
                return e
        raise ExportError(f"unknown exit {name!r}; available: {', '.join(self.names)}")

    def write(self, folder: Path) -> None:
        write_json(folder / MANIFEST, asdict(self))

    @staticmethod
    def read(folder: Path) -> Manifest:
        """The manifest in `folder`.

        Raises:
            ExportError: no manifest, a malformed one, or a newer format.
        """
        fix = "make one with reid-lab export"
        path = file_in(folder, MANIFEST, "an exported network", fix, ExportError)
        try:
            content = read_json(path)
            check_format(path, content, FORMAT)
            later = {"crc32", "card", "file_format", "shared_exit", "accept_thresholds"}
            renamed = {"calibrations": "accept_thresholds"}  # of older exports
            manifest = checked(path, content, Manifest, later, renamed)
            manifest.check_chain(path)
        except UserError as error:
            raise ExportError(f"{error}. Copy the export again, or export again") from error
        return manifest

    def check_chain(self, path: Path) -> None:
        """Check that the stages can run one after the other and end at the exits.

        Raises:
            ExportError: they cannot.
        """
        there, files = {PIXELS}, [stage.file for stage in self.stages]
        suffix = SUFFIXES[self.file_format]
        if other := next((file for file in files if not file.endswith(suffix)), None):
            raise ExportError(f"{path}: {other} is not a file of the format {self.file_format}")
        for stage in self.stages:
            missing = {*stage.inputs} - there
            if missing or not there.isdisjoint(stage.outputs):
                raise ExportError(
                    f"{path}: the stages do not form a chain: {stage.file} reads "
                    f"{', '.join(stage.inputs)} and gives {', '.join(stage.outputs)}"
                )
            there.update(stage.outputs)
        if self.shared_exit not in (None, self.names[-1]):
            raise ExportError(
                f"{path}: shared_exit is {self.shared_exit}; only the last exit, "
                f"{self.names[-1]}, may be shared"
            )
        ends = tuple(stage.exit for stage in self.stages)
        if ends != self.names or len({*files}) < len(files):
            raise ExportError(
                f"{path}: the stages end at {', '.join(ends)}, the exits are "
                f"{', '.join(self.names)}: they must be the same, each once"
            )


def whole_file(file_format: FileFormat) -> str:
    """Name of the file with the whole network in an export of this format."""
    return f"model{SUFFIXES[file_format]}"


def beside(file: str, file_format: FileFormat) -> str:
    """Name of the file that may hold the weights of `file`."""
    return file[: -len(".xml")] + ".bin" if file_format == "openvino" else f"{file}{DATA}"
