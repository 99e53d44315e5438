"""`reid-lab export`: check, trace, write and compare; the folder appears after all has passed."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from reid_lab.checkpoint import fingerprint_of_variant, open_model
from reid_lab.config.build import build_data
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.splits import check_rankable
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.doctor.examine import composed_data
from reid_lab.export import show
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
from reid_lab.output.console import stderr
from reid_lab.results.rows.cost import COST
from reid_lab.runtime.manifest import (
    INT8,
    ExportedExit,
    ExportError,
    Manifest,
    Preprocessing,
)
from reid_lab.runtime.model import Model

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# by format, which is also the name of its extra; TorchScript is in torch
MORE_PACKAGES = {"openvino": ("openvino",), "tflite": ("litert_torch", "ai_edge_litert")}


def export(args: Namespace) -> Manifest:
    """Write `args.out`, compare it with PyTorch, and print the result.

    Raises:
        UserError: an input is missing or wrong, or the export differs from PyTorch; nothing was
            written.
    """
    check_packages(args.to)
    check_target(args.out, args.overwrite)
    if args.int8:
        check_int8(args.overrides)
    with replacing_folder(args.out) as folder:  # locked before the network is loaded
        method, image, key = open_model(args.checkpoint)
        check_distances(method)
        if method.space_problem:
            raise ExportError(f"{args.checkpoint}: {method.space_problem}")
        cfg = data_config(args.overrides, method, image) if args.overrides else None
        data = data_set(cfg) if cfg else None
        formats = write_export(folder, method, image, key, data, args)
        if cfg and data and args.to:
            config = tested_config(cfg, args.checkpoint)
            write_scores(folder, formats, args.checkpoint, data, config)
        if args.triton:
            for path in (
                f.path for f in formats if f.manifest and f.manifest.file_format == "onnx"
            ):
                suffix = "" if path == folder else f"_{path.name}"
                write_triton(folder / FOLDER, f"reid{suffix}", path)
        check_target(args.out, args.overwrite)  # it may have come meanwhile
    show.outcome(args.out, formats)
    return Manifest.read(args.out)


def write_export(
    folder: Path,
    method: ReidModule,
    image: tuple[int, int],
    key: str,
    data: ReidDataModule | None,
    args: Namespace,
) -> list[Format]:
    """All formats in `folder`, PyTorch first, ONNX next; compared, and timed with `--to`."""
    from reid_lab.export.trace import trace  # takes onnx, which has been looked for by now

    plain = described(method, image, key, args.to)
    with working("trace"):
        graph, network = trace(method, image)
    formats = [Format("pytorch", args.checkpoint)]
    formats += write_float32(folder, graph, network, plain, args.to)
    for f in formats[1:]:
        f.difference = differences(method, Model(f.path))
        check_differences(f.difference, args.tolerance, f.name)
    if data is not None:
        costs = {e.name: e.mul_adds for e in plain.exits}
        test = TestImages(data, costs, args.batch_size, method.shared_exit)
        with working("rank the test split in each format"):
            formats[0].exits = test.rows(by_torch(method))
            for f in formats[1:]:
                f.exits = test.rows(Model(f.path).embed)
                ours, found = accuracies_of(formats[0].exits), accuracies_of(f.exits)
                check_accuracies(ours, found, args.map_tolerance, f.name)
        if args.int8:
            with working("INT8"):
                smaller = write_int8(folder, graph, network.plans, test, args)
                for f in smaller:
                    f.difference = differences(method, Model(f.path))
                    f.exits = test.rows(Model(f.path).embed)
                formats += smaller
    if args.to:
        with working("time each format in separate processes, in turns"):
            plan = TimingPlan(args.batch_size, args.repeats, args.seconds, args.threads)
            add_costs(formats, method, plain, plan)
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
    folder: Path, graph: Any, network: Any, plain: Manifest, to: Sequence[str]
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
        with working("trace as TorchScript"):
            manifest = write_torchscript(room, network, network.plans, manifest)
        formats.append(Format("torchscript", room, manifest))
    if "tflite" in to:
        room, manifest = folder / "tflite", replace(plain, file_format="tflite")
        with working("convert to TFLite"):
            manifest = write_tflite(room, network, network.plans, manifest)
        formats.append(Format("tflite", room, manifest))
    return formats


def write_int8(
    folder: Path, graph: Any, plans: Any, test: TestImages, args: Namespace
) -> list[Format]:
    """Write `folder`/int8, a separate export; with OpenVINO, its graph to openvino/int8, too."""
    from reid_lab.export.files import last_size, write_onnx, write_openvino
    from reid_lab.export.int8 import QUANTISED, quantised

    images = test.data.images_of("fit")
    count = min(args.calibration, len(test.data.train_split))
    indices = np.linspace(0, len(test.data.train_split) - 1, count).round().astype(int)
    small = quantised(graph, batches(images, indices, args.batch_size), folder)
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
        "images_per_second_ratio": speed_ratio(Model(room), Model(folder), args.batch_size),
    }
    formats = [first]
    if "openvino" in args.to:
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
    fixed: dict[str, Any] = {"height": height, "width": width, "views": 1, "view": "whole"}
    if method.crop:
        fixed |= {"view": "centre", "enlarge": method.enlarge}
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
        raise ExportError(
            "--int8 takes images to calibrate and to measure with: add a data set, "
            "dataset=market1501 dataset.root=..."
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
        raise ExportError(f"{out} exists already: --overwrite it, or choose another --out")
    if out.exists() and not (out / MANIFEST).is_file():
        raise ExportError(f"{out} is not an export and is not overwritten: choose another --out")


def versions(to: Sequence[str]) -> dict[str, str]:
    more = [name.replace("_", "-") for key in to for name in MORE_PACKAGES.get(key, ())]
    return {name: version(name) for name in ("reid-lab", "torch", *PACKAGES, *more)}


def working(what: str) -> AbstractContextManager[Any]:
    return stderr.status(f"{what} ...")
