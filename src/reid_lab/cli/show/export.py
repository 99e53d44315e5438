"""Output of `reid-lab export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from reid_lab.export.formats import Format
from reid_lab.output.console import NOTHING, head_table, stdout
from reid_lab.report.cost_section import figures, milliseconds, size
from reid_lab.report.tables import mul_adds, percent


def outcome(folder: Path, formats: Sequence[Format]) -> None:
    """One row per format and exit: largest difference from PyTorch, accuracies; then the times."""
    manifest = formats[1].manifest
    assert manifest is not None  # formats[1] is ONNX
    ranked, timed = bool(formats[0].exits), bool(formats[0].cost)
    heads = ["Rank-1", "mAP", "mAP diff"] * ranked
    table = head_table("Format", "Exit", "Mul-Adds", "Max diff", *heads)
    for f in formats if ranked else formats[1:]:
        for i, e in enumerate(manifest.exits):
            gap = f"{f.difference[e.name]['relative']:.1g}" if f.difference else NOTHING
            cells = _accuracies(f, formats[0], i) if ranked else []
            table.add_row(f.name, Text(e.name), mul_adds(e.mul_adds), gap, *cells)
    stdout.print(table)
    for f in formats:
        if "size_ratio" in f.more:
            stdout.print(
                f"INT8: {percent(f.more['size_ratio'])} of the bytes, "
                f"{f.more['images_per_second_ratio']:.2f} times the images/s"
            )
    if timed:
        _times(formats)
        row = formats[0].cost[0]
        stdout.print(
            f"{row.device}, threads={row.threads}; p50 and p95 of one image, images/s at batch "
            f"{row.batch}; the last exit by the whole network, the others by the chain",
            soft_wrap=True,
        )
    line = f"{folder}: stages {len(manifest.stages)}, fingerprint {manifest.fingerprint[:12]}"
    stdout.print(Text(line), soft_wrap=True)


def _accuracies(f: Format, than: Format, exit: int) -> list[str]:
    row, wanted = f.exits[exit], than.exits[exit]
    return [percent(row.rank1), percent(row.mAP), f"{100 * (row.mAP - wanted.mAP):+.2f}"]


def _times(formats: Sequence[Format]) -> None:
    table = head_table("Format", "Exit", "p50", "p95", "Images/s", "Files", "Process")
    for f in formats:
        for row in f.cost:
            cells = [milliseconds(row.latency_p50_ms), milliseconds(row.latency_p95_ms)]
            cells += [figures(row.images_per_second), size(row.file_bytes), size(row.process_bytes)]
            table.add_row(f.name, Text(row.exit), *cells)
    stdout.print(table)
