"""What the command prints: results to stdout, everything else to stderr."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.text import Text

from reid_lab.files.console import head_table, stderr, stdout
from reid_lab.report.tables import mul_adds, percent
from reid_lab.runtime.manifest import INT8, Manifest


def working(what: str) -> AbstractContextManager[Any]:
    return stderr.status(f"{what} ...")


def outcome(folder: Path, manifest: Manifest) -> None:
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
        table.add_row(e.name, mul_adds(e.mul_adds), f"{gap:.1g}", *cells)
    stdout.print(table)
    if INT8 in found:
        small = found[INT8]
        stdout.print(
            f"INT8: {percent(small['size_ratio'])} of the bytes, "
            f"{small['images_per_second_ratio']:.2f} times the images/s"
        )
    line = f"{folder}: stages {len(manifest.stages)}, fingerprint {manifest.fingerprint[:12]}"
    stdout.print(Text(line), soft_wrap=True)
