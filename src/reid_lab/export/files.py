"""The files of an export: whole network, chain, manifest; one function per format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import onnx

from reid_lab.export.graph import chain, describe, inputs_of, outputs_of, whole, write
from reid_lab.export.parts import Part, step_parts, whole_part
from reid_lab.export.script import write_script
from reid_lab.export.tflite import write_tflite_part
from reid_lab.export.trace import TRACED, Network, StepNames
from reid_lab.optional import load
from reid_lab.runtime.checks import crc32_of
from reid_lab.runtime.engines import FACTS
from reid_lab.runtime.manifest import STAGES, SUFFIXES, Manifest, Stage, beside

NOT_IN_FILES = {"stages", "measured", "crc32"}  # fields of a manifest that files do not repeat


def write_onnx(
    folder: Path, graph: onnx.ModelProto, plans: Sequence[StepNames], manifest: Manifest
) -> Manifest:
    """Write the network to `folder`; return the manifest with its stages.

    Every file has the facts of the manifest in its metadata, including the fingerprint.
    """
    parts = chain(graph, plans)
    stages = _stages(plans, manifest, [(inputs_of(part), outputs_of(part)) for part in parts])
    files = {manifest.whole: whole(graph, plans)}
    files |= dict(zip((stage.file for stage in stages), parts, strict=True))
    for file, model in files.items():
        describe(model, facts_of(manifest))
        write(model, folder / file)
    return _completed(folder, manifest, stages)


def write_openvino(folder: Path, source: Path, manifest: Manifest) -> Manifest:
    """Write the ONNX export in `source` as OpenVINO's `.xml` and `.bin`, with equal weights.

    INT8 stays INT8: OpenVINO runs a graph in QDQ form with its INT8 kernels. Such an export has
    stages only, see `Manifest.chained`.
    """
    openvino = load("openvino", "to=openvino", "--to openvino")
    original = Manifest.read(source)
    stages = tuple(
        replace(stage, file=str(Path(stage.file).with_suffix(".xml").as_posix()))
        for stage in original.stages
    )
    files = {} if manifest.chained else {original.whole: manifest.whole}
    files |= {old.file: new.file for old, new in zip(original.stages, stages, strict=True)}
    (folder / STAGES).mkdir(parents=True)
    for old, new in files.items():
        network = openvino.Core().read_model(str(source / old))
        for key, text in facts_of(manifest).items():
            network.set_rt_info(text, [FACTS, key])
        openvino.save_model(network, str(folder / new), compress_to_fp16=False)
    return _completed(folder, manifest, stages)


def write_torchscript(
    folder: Path, network: Network, plans: Sequence[StepNames], manifest: Manifest
) -> Manifest:
    """Write the network as TorchScript: traced, frozen, with norms folded."""
    parts = list(step_parts(network, plans, TRACED))
    return _written(
        folder, whole_part(network, plans, TRACED), parts, plans, manifest, write_script
    )


def write_tflite(
    folder: Path, network: Network, plans: Sequence[StepNames], manifest: Manifest
) -> Manifest:
    """Write the network as TFLite, for one image: its graphs have fixed shapes."""
    parts = list(step_parts(network, plans, 1))
    write_one = partial(write_tflite_part, network)
    return _written(folder, whole_part(network, plans, 1), parts, plans, manifest, write_one)


def _written(
    folder: Path,
    all_of_it: Part,
    parts: Sequence[Part],
    plans: Sequence[StepNames],
    manifest: Manifest,
    write_part: Callable[[Part, Path, Mapping[str, str]], None],
) -> Manifest:
    """Write a file for each part by `write_part`, with its facts and the order of its ends."""
    stages = _stages(plans, manifest, [(part.inputs, part.outputs) for part in parts])
    files = {manifest.whole: all_of_it}
    files |= dict(zip((stage.file for stage in stages), parts, strict=True))
    (folder / STAGES).mkdir(parents=True)
    for file, part in files.items():
        ends = {"inputs": json.dumps(part.inputs), "outputs": json.dumps(part.outputs)}
        write_part(part, folder / file, facts_of(manifest) | ends)
    return _completed(folder, manifest, stages)


def facts_of(manifest: Manifest) -> dict[str, str]:
    """The facts of the manifest for each file: texts unchanged, other values as JSON."""
    facts = {k: v for k, v in asdict(manifest).items() if k not in NOT_IN_FILES}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts.items()}


def _stages(
    plans: Sequence[StepNames],
    manifest: Manifest,
    ends: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
) -> tuple[Stage, ...]:
    suffix = SUFFIXES[manifest.file_format]
    return tuple(
        Stage(_file_of(number, plan.exit, suffix), *ends[number - 1])
        for number, plan in enumerate(plans, 1)
    )


def _file_of(number: int, exit: str, suffix: str) -> str:
    """A file name such as 01_stage1.onnx; unusual characters become underscores."""
    return f"{STAGES}/{number:02}_{re.sub(r'[^A-Za-z0-9._-]', '_', exit)}{suffix}"


def _completed(folder: Path, manifest: Manifest, stages: tuple[Stage, ...]) -> Manifest:
    """Write the manifest, with the stages and a checksum of each file."""
    paths = [*folder.glob("model.*"), *(folder / STAGES).iterdir()]
    checksums = {path.relative_to(folder).as_posix(): crc32_of(path) for path in sorted(paths)}
    manifest = replace(manifest, stages=stages, crc32=checksums)
    manifest.write(folder)
    return manifest


def last_size(folder: Path) -> int:
    """Bytes of the files that the last exit needs."""
    manifest = Manifest.read(folder)
    return sizes_of(folder, manifest)[manifest.names[-1]]


def sizes_of(folder: Path, manifest: Manifest) -> dict[str, int]:
    """Exit -> bytes of its files: the stages up to it; for the last exit the whole network, if it
    has a file.
    """
    sizes, total = {}, 0
    for stage in manifest.stages:
        names = {stage.file, beside(stage.file, manifest.file_format)}
        total += sum((folder / name).stat().st_size for name in names & manifest.crc32.keys())
        sizes[stage.exit] = total
    if not manifest.chained:
        sizes[manifest.names[-1]] = sum(path.stat().st_size for path in folder.glob("model.*"))
    return sizes
