"""A model repository for NVIDIA's Triton server, from an ONNX export; the server is not needed."""

from __future__ import annotations

import shutil
from pathlib import Path

from reid_lab.files.atomic import write_text
from reid_lab.runtime.manifest import DATA, PIXELS, Manifest

FOLDER = "triton"
MOST = 64  # images of a request
CONFIG = """\
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: {most}
input [
  {{ name: "{pixels}" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }}
]
output [
{outputs}
]
dynamic_batching {{ }}
parameters [
  {{ key: "fingerprint" value: {{ string_value: "{fingerprint}" }} }}
]
"""
OUTPUT = '  {{ name: "{name}" data_type: TYPE_FP32 dims: [ {dim} ] }}'


def write_triton(repository: Path, name: str, source: Path) -> None:
    """Write `repository`/`name`: `config.pbtxt`, and version 1, a copy of the whole network.

    All exits are outputs; a client that requests one of them still pays for all. For early exit,
    use `reid-lab serve`: Triton's ensembles run every stage.

    Args:
        repository: model repository; it may hold other models.
        name: name of the model.
        source: folder of an ONNX export.
    """
    manifest = Manifest.read(source)
    version = repository / name / "1"
    version.mkdir(parents=True)
    for suffix in ("", DATA):
        file = source / f"{manifest.whole}{suffix}"
        if file.is_file():
            shutil.copyfile(file, version / f"model.onnx{suffix}")
    height, width = manifest.preprocessing.image
    config = CONFIG.format(
        name=name,
        most=MOST,
        pixels=PIXELS,
        height=height,
        width=width,
        outputs=",\n".join(OUTPUT.format(name=e.name, dim=e.dim) for e in manifest.exits),
        fingerprint=manifest.fingerprint,
    )
    write_text(repository / name / "config.pbtxt", config)
