"""Export a checkpoint: check, trace, write and compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
from omegaconf import DictConfig, OmegaConf

from reid_lab.checkpoint import fingerprint_of_variant, open_model
from reid_lab.config.build import build_data
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.splits import check_rankable
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.doctor.examine import composed_data
from reid_lab.errors import with_options
from reid_lab.export.formats import Format, TimingPlan, add_costs, write_scores
from reid_lab.export.measure import (
    TestImages,
    accuracies_of,
    batches,
    by_torch,
    check_accuracies,
    check_differences,
    differences,
    speed_ratio,
)
from reid_lab.export.triton import FOLDER, write_triton
from reid_lab.files.folders import replacing_folder
from reid_lab.files.outputs import MANIFEST, check_outside
from reid_lab.model import ReidModule
from reid_lab.output import arguments
from reid_lab.output.arguments import check_whole, texts
from reid_lab.results.rows.cost import COST
from reid_lab.runtime.manifest import (
    INT8,
    ExportedExit,
    ExportError,
    FileFormat,
    Manifest,
    Preprocessing,
)
from reid_lab.runtime.model import Model

FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# by format, which is also the name of its extra; TorchScript is in torch
MORE_PACKAGES = {"openvino": ("openvino",), "tflite": ("litert_torch", "ai_edge_litert")}


Working = Callable[[str], None]  # called with the name of the current step


def silent(work: str) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class ExportOptions:
    """What is written beside ONNX, and how it is compared; see `export_checkpoint`."""

    to: Sequence[FileFormat] = ()
    int8: bool = False
    calibration_images: int = 256
    tolerance: float = 1e-4
    map_tolerance: float = 1e-3
    timing: TimingPlan = TimingPlan(batch=32, repeats=50, seconds=15.0, threads=1)


@dataclass(frozen=True)
class ExportResult:
    """A finished export.

    Attributes:
        folder: folder of the export, which `runtime.Model` opens.
        manifest: exits, Mul-Adds and fingerprint of its ONNX network.
        formats: PyTorch first, ONNX next, with differences, and accuracies and times if measured.
    """

    folder: Path
    manifest: Manifest
    formats: list[Format]


def export_checkpoint(
    checkpoint: Path | str,
    out: Path | str,
    *,
    to: FileFormat | Sequence[FileFormat] = (),
    data: str | Sequence[str] = (),
    int8: bool = False,
    calibration_images: int = 256,
    triton: bool = False,
    overwrite: bool = False,
    tolerance: float = 1e-4,
    map_tolerance: float = 1e-3,
    batch_size: int = 32,
    seconds: float = 15.0,
    repeats: int = 50,
    threads: int = 1,
    progress: Working = silent,
) -> ExportResult:
    """Write a checkpoint as ONNX, and in other formats, and compare it with PyTorch.

    The folder appears once all has passed; nothing is written after an error. With `to`, formats
    are timed in processes of their own: call it below `if __name__ == "__main__":`.

    Args:
        checkpoint: checkpoint of a run.
        out: output folder.
        to: one format more, or several: `onnx` (always written), `openvino`, `torchscript`,
            `tflite`; all are timed and compared in `out/cost.csv`.
        data: config overrides of a data set, one or several, such as ["dataset=csv",
            "dataset.root=/data/mine"], to compare accuracies on its test split.
        int8: also write an INT8 network and measure its accuracies; needs `data`.
        calibration_images: number of training images to calibrate INT8 with.
        triton: also write a model repository for NVIDIA's Triton server.
        overwrite: replace an existing export.
        tolerance: largest difference from PyTorch, relative to the exit's largest value.
        map_tolerance: largest difference of mAP and Rank-1, as fractions.
        batch_size: batch size of accuracies and images/s.
        seconds: seconds to time each format.
        repeats: most timed passes in each of three rounds.
        threads: threads of the network while it is timed.
        progress: called with what is being done.

    Raises:
        ExportError: a missing package, `out` exists or cannot be overwritten, or the export
            differs from PyTorch.
        UserError: not a checkpoint, or an invalid data set.
    """
    checkpoint = arguments.path("checkpoint", checkpoint)
    out = arguments.path("out", out)
    to, data = _formats(to), texts("data", data)
    check_whole("calibration_images", calibration_images)
    check_whole("batch_size", batch_size)
    check_whole("repeats", repeats)
    check_whole("threads", threads)
    check_packages(to)
    check_target(out, overwrite)
    if int8:
        check_int8(data)
    timing = TimingPlan(batch_size, repeats, seconds, threads)
    options = ExportOptions(to, int8, calibration_images, tolerance, map_tolerance, timing)
    with replacing_folder(out) as folder:  # locked before the network is loaded
        method, image, key = open_model(checkpoint)
        check_distances(method)
        if method.space_problem:
            raise ExportError(f"{checkpoint}: {method.space_problem}")
        cfg = data_config(data, method, image) if data else None
        test = data_set(cfg) if cfg else None
        made = Source(checkpoint, method, image, key)
        formats = write_export(folder, made, test, options, progress)
        if cfg and test and to:
            write_scores(folder, formats, checkpoint, test, tested_config(cfg, checkpoint))
        if triton:
            for path in (
                f.path for f in formats if f.manifest and f.manifest.file_format == "onnx"
            ):
                suffix = "" if path == folder else f"_{path.name}"
                write_triton(folder / FOLDER, f"reid{suffix}", path)
        check_target(out, overwrite)  # it may have come meanwhile
    return ExportResult(out, Manifest.read(out), formats)


def _formats(to: FileFormat | Sequence[FileFormat]) -> list[FileFormat]:
    """Raises: ExportError: an unknown format."""
    given = texts("to", to)
    if unknown := [name for name in given if name not in FORMATS]:
        names = ", ".join(map(repr, unknown))
        raise ExportError(f"unknown format {names}; available: {', '.join(FORMATS)}")
    return [name for name in FORMATS if name in given]


@dataclass(frozen=True)
class Source:
    """The network of a checkpoint, for images (height, width), with its fingerprint."""

    checkpoint: Path
    method: ReidModule
    image: tuple[int, int]
    fingerprint: str


def write_export(
    folder: Path,
    source: Source,
    data: ReidDataModule | None,
    options: ExportOptions,
    progress: Working = silent,
) -> list[Format]:
    """All formats in `folder`, PyTorch first, ONNX next; compared, and timed with `to`."""
    from reid_lab.export.trace import trace  # takes onnx, which has been looked for by now

    method, to = source.method, options.to
    plain = described(method, source.image, source.fingerprint, to)
    progress("trace")
    graph, network = trace(method, source.image)
    formats = [Format("pytorch", source.checkpoint)]
    formats += write_float32(folder, graph, network, plain, to, progress)
    for f in formats[1:]:
        f.difference = differences(method, Model(f.path))
        check_differences(f.difference, options.tolerance, f.name)
    if data is not None:
        costs = {e.name: e.mul_adds for e in plain.exits}
        test = TestImages(data, costs, options.timing.batch, method.shared_exit)
        progress("rank the test split in each format")
        formats[0].exits = test.rows(by_torch(method))
        for f in formats[1:]:
            f.exits = test.rows(Model(f.path).embed)
            ours, found = accuracies_of(formats[0].exits), accuracies_of(f.exits)
            check_accuracies(ours, found, options.map_tolerance, f.name)
        if options.int8:
            progress("INT8")
            smaller = write_int8(folder, graph, network.plans, test, options)
            for f in smaller:
                f.difference = differences(method, Model(f.path))
                f.exits = test.rows(Model(f.path).embed)
            formats += smaller
    if to:
        progress("time each format in separate processes, in turns")
        add_costs(formats, method, plain, options.timing)
        COST.write(folder / COST.file, [row for f in formats for row in f.cost])
    keep_measured(formats, data)
    return formats


def described(method: ReidModule, image: tuple[int, int], key: str, to: Sequence[str]) -> Manifest:
    """The manifest of a float32 export, without stages and checksums.

    Args:
        image: (height, width) of the network's input.
        key: the checkpoint's fingerprint.
        to: formats beside ONNX.
    """
    seen = method.crop or image
    costs, dims = count_exits(method, *seen), exit_dims(method, *seen)
    stream = method.stream_exits
    return Manifest(
        key,
        "float32",
        Preprocessing(image, MEAN, STD),
        tuple(ExportedExit(n, dims[n], costs[n], n in stream) for n in method.exit_names),
        (),
        versions(to),
        card=method.card.to_dict() if method.card else {},
        shared_exit=method.shared_exit,
        accept_thresholds=method.accept_thresholds,
    )


def write_float32(
    folder: Path, graph: Any, network: Any, plain: Manifest, to: Sequence[str], progress: Working
) -> list[Format]:
    """Write ONNX to `folder`, each other format to a folder below it."""
    from reid_lab.export.files import write_onnx, write_openvino, write_tflite, write_torchscript

    formats = [Format("onnx", folder, write_onnx(folder, graph, network.plans, plain))]
    if "openvino" in to:
        room = folder / "openvino"
        manifest = write_openvino(room, folder, replace(plain, file_format="openvino"))
        formats.append(Format("openvino", room, manifest))
    if "torchscript" in to:
        room, manifest = folder / "torchscript", replace(plain, file_format="torchscript")
        progress("trace as TorchScript")
        manifest = write_torchscript(room, network, network.plans, manifest)
        formats.append(Format("torchscript", room, manifest))
    if "tflite" in to:
        room, manifest = folder / "tflite", replace(plain, file_format="tflite")
        progress("convert to TFLite")
        manifest = write_tflite(room, network, network.plans, manifest)
        formats.append(Format("tflite", room, manifest))
    return formats


def write_int8(
    folder: Path, graph: Any, plans: Any, test: TestImages, options: ExportOptions
) -> list[Format]:
    """Write `folder`/int8, a separate export; with OpenVINO, its graph to openvino/int8, too."""
    from reid_lab.export.files import last_size, write_onnx, write_openvino
    from reid_lab.export.int8 import QUANTISED, quantised

    images = test.data.images_of("fit")
    count = min(options.calibration_images, len(test.data.train_split))
    batch = options.timing.batch
    indices = np.linspace(0, len(test.data.train_split) - 1, count).round().astype(int)
    small = quantised(graph, batches(images, indices, batch), folder)
    full = Manifest.read(folder)
    content = small.SerializeToString(deterministic=True)
    key = fingerprint_of_variant(full.fingerprint, INT8, content)
    plain = replace(
        full, fingerprint=key, precision="int8", stages=(), crc32={}, accept_thresholds={}
    )
    room = folder / INT8
    first = Format("onnx int8", room, write_onnx(room, small, plans, plain))
    first.more = {
        "calibration_images": count,
        "quantised": list(QUANTISED),
        "size_ratio": last_size(room) / last_size(folder),
        "images_per_second_ratio": speed_ratio(Model(room), Model(folder), batch),
    }
    formats = [first]
    if "openvino" in options.to:
        # the same graph, but other rounding: its embeddings are not mixed with onnxruntime's
        key = fingerprint_of_variant(key, "openvino", b"")
        plain = replace(plain, fingerprint=key, file_format="openvino")
        room = folder / "openvino" / INT8
        formats.append(Format("openvino int8", room, write_openvino(room, folder / INT8, plain)))
    return formats


def keep_measured(formats: Sequence[Format], data: ReidDataModule | None) -> None:
    """Add the measured values to each manifest."""
    torchs = accuracies_of(formats[0].exits)
    for f in formats[1:]:
        found: dict[str, Any] = {"difference": f.difference}
        if data is not None:
            found |= {"dataset": data.benchmark.name, "pytorch": torchs}
            found["accuracies"] = accuracies_of(f.exits)
        f.manifest = replace(Manifest.read(f.path), measured=found | f.more)
        f.manifest.write(f.path)


def data_config(overrides: Sequence[str], method: ReidModule, image: tuple[int, int]) -> DictConfig:
    """The config of `overrides`, at the checkpoint's image size, with one view per image."""
    height, width = method.crop or image
    fixed: dict[str, Any] = {
        "height": height,
        "width": width,
        "test_views": 1,
        "test_crop": "whole",
    }
    if method.crop:
        fixed |= {"test_crop": "centre", "enlarge": method.enlarge}
    return composed_data([*overrides, *(f"dataset.transforms.{k}={v}" for k, v in fixed.items())])


def tested_config(cfg: DictConfig, checkpoint: Path) -> str:
    """The config of a test of the checkpoint on these data, as YAML."""
    parts = {"task": "test", "ckpt_path": str(checkpoint), "seed": cfg.seed}
    return OmegaConf.to_yaml(
        {**parts, "dataset": OmegaConf.to_container(cfg.dataset, resolve=True)}
    )


def data_set(cfg: DictConfig) -> ReidDataModule:
    """The data set of a config, rendered.

    Raises:
        UserError: no data set, or one that cannot be ranked.
    """
    data = build_data(cfg)
    data.render()
    # it is not trained on: P and K are not checked
    check_rankable(data.benchmark.name, *data.splits("test"), data.benchmark.protocol.hidden)
    return data


def check_packages(to: Sequence[str]) -> None:
    """Raises: ExportError: a package that the export needs is not installed."""
    for extra, names in {"export": PACKAGES, **MORE_PACKAGES}.items():
        missing = [name for name in names if find_spec(name) is None]
        if missing and (extra == "export" or extra in to):
            raise ExportError(
                f"{', '.join(missing)} not installed: pip install 'reid-lab[{extra}]'"
            )


def check_int8(overrides: Sequence[str]) -> None:
    """Check that an INT8 export can be made.

    Raises:
        UserError: no data set is given, or NNCF is not installed.
    """
    if not overrides:
        text = "int8 takes images to calibrate and to measure with: add"
        words = "dataset=market1501", "dataset.root=..."
        raise with_options(
            ExportError(f"{text} data={[*words]}"), f"--{text} a data set, {' '.join(words)}"
        )
    from reid_lab.export.int8 import load_nncf

    load_nncf()


def check_distances(method: ReidModule) -> None:
    """Raises: ExportError: an exit ranks by a metric that the runtime does not know."""
    if method.exit_signs:
        raise ExportError(
            f"exit {', '.join(method.exit_signs)} ranks by a metric with negative directions, "
            "which the runtime does not know: train with model.kissme_clip=true and "
            "model.xqda_solver=eigen"
        )


def check_target(out: Path, overwrite: bool) -> None:
    """Raises: ExportError: `out` exists and may not, or cannot, be replaced, or is inside one."""
    check_outside(out, ExportError)
    if out.exists() and not overwrite:
        raise with_options(
            ExportError(f"{out} exists already: overwrite it (overwrite=True), or choose another"),
            f"{out} exists already: --overwrite it, or choose another --out",
        )
    if out.exists() and not (out / MANIFEST).is_file():
        raise ExportError(f"{out} is not an export and is not overwritten: choose another folder")


def versions(to: Sequence[str]) -> dict[str, str]:
    more = [name.replace("_", "-") for key in to for name in MORE_PACKAGES.get(key, ())]
    return {name: version(name) for name in ("reid-lab", "torch", *PACKAGES, *more)}
