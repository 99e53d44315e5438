"""The files of an export: the whole network, the chain, the manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import onnx

from reid_lab.export.graph import chain, describe, inputs_of, outputs_of, whole, write
from reid_lab.export.trace import StepNames
from reid_lab.runtime.manifest import STAGES, WHOLE, Manifest, Stage
from reid_lab.runtime.model import crc32_of

NOT_IN_FILES = {"stages", "measured", "crc32"}  # of a manifest's fields


def write_files(
    folder: Path, graph: onnx.ModelProto, plans: Sequence[StepNames], manifest: Manifest
) -> Manifest:
    """Write the network into `folder`; the manifest with its stages.

    Every file has the manifest's facts in its metadata, the fingerprint among them.
    """
    files = [file_of(number, plan.exit) for number, plan in enumerate(plans, 1)]
    parts = dict(zip(files, chain(graph, plans), strict=True))
    stages = tuple(Stage(file, inputs_of(m), outputs_of(m)) for file, m in parts.items())
    manifest = replace(manifest, stages=stages)
    facts = {k: v for k, v in asdict(manifest).items() if k not in NOT_IN_FILES}
    for file, model in {WHOLE: whole(graph, plans), **parts}.items():
        describe(model, facts)
        write(model, folder / file)
    manifest = replace(manifest, crc32=_checksums(folder))
    manifest.write(folder)
    return manifest


def _checksums(folder: Path) -> dict[str, int]:
    paths = [*folder.glob(f"{WHOLE}*"), *(folder / STAGES).iterdir()]
    return {path.relative_to(folder).as_posix(): crc32_of(path) for path in sorted(paths)}


def file_of(number: int, exit: str) -> str:
    """01_stage1.onnx; what a file system might not like becomes an underscore."""
    return f"{STAGES}/{number:02}_{re.sub(r'[^A-Za-z0-9._-]', '_', exit)}.onnx"


def size_of(folder: Path) -> int:
    """Bytes of the whole network."""
    return sum(path.stat().st_size for path in folder.glob(f"{WHOLE}*"))
