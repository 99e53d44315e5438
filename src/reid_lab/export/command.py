"""`reid-lab export`: check, trace, write and compare; the folder appears when all has passed."""

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
from rich.text import Text

from reid_lab.budget.mul_adds import count_exits, exit_dims
from reid_lab.checkpoint import fingerprint_of_variant, open_model
from reid_lab.config.build import build_data
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.splits import check_rankable
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.doctor.examine import composed
from reid_lab.files.console import head_table, stderr, stdout
from reid_lab.files.folders import replacing_folder
from reid_lab.model import ReidModule
from reid_lab.report.tables import mul_adds, percent
from reid_lab.runtime.manifest import (
    INT8,
    MANIFEST,
    ExportedExit,
    ExportError,
    Manifest,
    Preprocessing,
)

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export(args: Namespace) -> Manifest:
    """Write `args.out`, compared with PyTorch; print the result.

    Raises:
        UserError: something is missing or wrong, or the export differs from PyTorch; nothing
            was written.
    """
    check_packages()
    check_target(args.out, args.overwrite)
    if args.int8 and not args.overrides:
        raise ExportError(
            "--int8 takes images to calibrate and to measure with: add a data set, "
            "dataset=market1501 dataset.root=..."
        )
    method, image, key = open_model(args.checkpoint)
    if method.exit_signs:
        raise ExportError(
            f"exit {', '.join(method.exit_signs)} ranks by a metric with negative directions, "
            "which the runtime does not know: train with model.kissme_clip=true and "
            "model.xqda_solver=eigen"
        )
    data = data_set(args.overrides, image) if args.overrides else None
    with replacing_folder(args.out) as folder:
        manifest = write_export(folder, method, image, key, data, args)
        check_target(args.out, args.overwrite)  # it may have come meanwhile
    print_outcome(args.out, manifest)
    return manifest


def write_export(
    folder: Path,
    method: ReidModule,
    image: tuple[int, int],
    key: str,
    data: ReidDataModule | None,
    args: Namespace,
) -> Manifest:
    """The float32 export in `folder`, INT8 below it with `--int8`."""
    from reid_lab.export.files import write_files  # takes onnx, which has been looked for by now
    from reid_lab.export.measure import (
        TestImages,
        by_torch,
        check_accuracies,
        check_differences,
        differences,
    )
    from reid_lab.export.trace import trace
    from reid_lab.runtime.model import Model

    costs, dims = count_exits(method, *image), exit_dims(method, *image)
    stream = method.stream_exits
    exits = tuple(ExportedExit(n, dims[n], costs[n], n in stream) for n in method.exit_names)
    preprocessing = Preprocessing(image, MEAN, STD)
    with working("trace"):
        traced = trace(method, image)
    card = method.card.to_dict() if method.card else {}
    plain = Manifest(key, "float32", preprocessing, exits, (), versions(), card=card)
    manifest = write_files(folder, *traced, plain)
    model = Model(folder)
    found: dict[str, Any] = {"difference": differences(method, model)}
    check_differences(found["difference"], args.tolerance)
    if data is not None:
        test = TestImages(data, costs, args.batch_size)
        with working("rank the test split with PyTorch and onnxruntime"):
            found["pytorch"] = test.accuracies(by_torch(method))
            found["onnxruntime"] = test.accuracies(model.embed)
        found["dataset"] = data.benchmark.name
        check_accuracies(found["pytorch"], found["onnxruntime"], args.map_tolerance)
        if args.int8:
            with working("INT8"):
                found[INT8] = write_int8(folder, model, traced, test, args)
    return write_measured(folder, manifest, found)


def write_int8(
    folder: Path, model: Any, traced: tuple[Any, Any], test: Any, args: Namespace
) -> dict[str, Any]:
    """`folder`/int8, a whole export of its own; what it loses, its size and speed by ratio."""
    from reid_lab.export.files import size_of, write_files
    from reid_lab.export.int8 import QUANTISED, quantised
    from reid_lab.export.measure import batches, speed_ratio
    from reid_lab.runtime.model import Model

    images = test.data.images_of("fit")
    count = min(args.calibration, len(test.data.train_split))
    places = np.linspace(0, len(test.data.train_split) - 1, count).round().astype(int)
    graph, plans = traced
    small_graph = quantised(graph, batches(images, places, args.batch_size), folder)
    full = model.manifest
    key = fingerprint_of_variant(
        full.fingerprint, INT8, small_graph.SerializeToString(deterministic=True)
    )
    plain = Manifest(key, "int8", full.preprocessing, full.exits, (), full.versions, card=full.card)
    manifest = write_files(folder / INT8, small_graph, plans, plain)
    small = Model(folder / INT8)
    found = {
        "accuracies": test.accuracies(small.embed),
        "calibration_images": count,
        "quantised": list(QUANTISED),
        "size_ratio": size_of(folder / INT8) / size_of(folder),
        "images_per_second_ratio": speed_ratio(small, model, args.batch_size),
    }
    write_measured(folder / INT8, manifest, found)
    return found


def write_measured(folder: Path, manifest: Manifest, found: dict[str, Any]) -> Manifest:
    measured = replace(manifest, measured=found)
    measured.write(folder)
    return measured


def data_set(overrides: Sequence[str], image: tuple[int, int]) -> ReidDataModule:
    """What `overrides` compose, at the checkpoint's image size, one view an image.

    Raises:
        UserError: no data set, or one that cannot be ranked.
    """
    fixed = {"height": image[0], "width": image[1], "views": 1}
    own = [f"dataset.transforms.{name}={value}" for name, value in fixed.items()]
    data = build_data(composed([*overrides, *own]))
    data.render()
    # it is not trained on: P and K are not checked
    check_rankable(data.benchmark.name, *data.splits("test"), data.benchmark.protocol.hidden)
    return data


def check_packages() -> None:
    """Raises:
    ExportError: a package that exporting takes is not installed.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ExportError(f"{', '.join(missing)} not installed: pip install 'reid-lab[export]'")


def check_target(out: Path, overwrite: bool) -> None:
    """Raises:
    ExportError: `out` is there and may not, or cannot, be replaced.
    """
    if out.exists() and not overwrite:
        raise ExportError(f"{out} exists already: --overwrite it, or choose another --out")
    if out.exists() and not (out / MANIFEST).is_file():
        raise ExportError(f"{out} is no export and is not overwritten: choose another --out")


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("reid-lab", "torch", *PACKAGES)}


def working(what: str) -> AbstractContextManager[Any]:
    return stderr.status(f"{what} ...")


def print_outcome(folder: Path, manifest: Manifest) -> None:
    """A row an exit: cost, difference from PyTorch, accuracies where they were measured."""
    found = manifest.measured
    rows = {"ONNX": found.get("onnxruntime"), "PyTorch": found.get("pytorch")}
    rows["INT8"] = found.get(INT8, {}).get("accuracies")
    ranked = [name for name, accuracies in rows.items() if accuracies]
    heads = [f"{metric} {name}" for name in ranked for metric in ("Rank-1", "mAP")]
    table = head_table("Exit", "Mul-Adds", "Max diff", *heads)
    for e in manifest.exits:
        accuracies = [rows[name][e.name] for name in ranked]  # type: ignore[index]
        cells = [percent(a[metric]) for a in accuracies for metric in ("rank1", "mAP")]
        gap = found["difference"][e.name]["relative"]
        table.add_row(Text(e.name), mul_adds(e.mul_adds), f"{gap:.1g}", *cells)
    stdout.print(table)
    if INT8 in found:
        small = found[INT8]
        stdout.print(
            f"INT8: {percent(small['size_ratio'])} of the bytes, "
            f"{small['images_per_second_ratio']:.2f} times the images/s"
        )
    line = f"{folder}: stages {len(manifest.stages)}, fingerprint {manifest.fingerprint[:12]}"
    stdout.print(Text(line), soft_wrap=True)
