"""INT8: convolutions and matrix products quantised by NNCF.

Quantisation is static, in QDQ form: weights per channel, activations by their ranges over
calibration images. Biases then correct the mean error of the rounded weights, which matters most
for accuracy. Weights have 7 bits: processors without INT8 dot products (AVX2,
AVX-512 without VNNI) add pairs of products in 16 bits, which overflow with 8. Depthwise
convolutions stay float32: they have few of the Mul-Adds and are slower in INT8. The states between
stages stay float32, so that the chain and the whole network compute the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

from reid_lab.export.trace import silenced
from reid_lab.optional import load
from reid_lab.runtime.manifest import PIXELS

QUANTISED = ("Conv", "Gemm", "MatMul")


def quantised(graph: onnx.ModelProto, pixels: Iterable[np.ndarray], room: Path) -> onnx.ModelProto:
    """Quantise a graph to INT8; its outputs keep their names.

    Args:
        room: folder for temporary files.
        pixels: batches (N, H, W, 3) of calibration images.

    Raises:
        MissingPackageError: NNCF is not installed.
    """
    nncf = load_nncf()
    advanced = nncf.AdvancedQuantizationParameters
    samples = [{PIXELS: one[None]} for batch in pixels for one in batch]
    with silenced():
        plain = folded(graph, room)
        attention = any(node.op_type == "Softmax" for node in plain.graph.node)
        return nncf.quantize(  # type: ignore[no-any-return]
            plain,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=True,
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
            ignored_scope=nncf.IgnoredScope(names=grouped(plain), validate=False),
            advanced_parameters=advanced(overflow_fix=nncf.OverflowFix.ENABLE),
        )


def load_nncf() -> Any:
    """Import NNCF, without its usage statistics, which are sent by default."""
    with patch.dict(os.environ, {"CI": "true"}):  # where it sends none
        return load("nncf", "int8=True", "--int8")


def folded(graph: onnx.ModelProto, room: Path) -> onnx.ModelProto:
    """The graph with norms folded into convolutions, and with all shapes."""
    with tempfile.TemporaryDirectory(dir=room) as folder:
        plain, ready = (Path(folder) / f"{name}.onnx" for name in "ab")
        onnx.save(graph, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        return onnx.load(ready)


def grouped(graph: onnx.ModelProto) -> list[str]:
    """The names of the convolutions in groups, such as depthwise ones."""
    return [
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]
