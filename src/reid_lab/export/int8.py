"""INT8: the network's convolutions and matrix products, quantised by NNCF.

Static, in QDQ form: weights a channel each, activations by the ranges that calibration images
reach; the biases then correct the mean error that the rounded weights make, which most of the
accuracy depends on (experiments/int8). Weights have 7 bits: processors without INT8 dot products
(AVX2, AVX-512 without VNNI) add pairs of products in 16 bits, which overflow with 8. Depthwise
convolutions stay float32: they have few of the Mul-Adds and are slower in INT8. The states that
pass between stages stay float32, so that chain and whole compute the same.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

from reid_lab.optional import load
from reid_lab.runtime.manifest import PIXELS

QUANTISED = ("Conv", "Gemm", "MatMul")


def quantised(graph: onnx.ModelProto, pixels: Iterable[np.ndarray], room: Path) -> onnx.ModelProto:
    """Quantise a graph to INT8; its outputs keep their names.

    Args:
        room: a folder for temporary files.
        pixels: batches (N, H, W, 3) of calibration images.

    Raises:
        MissingPackageError: NNCF is not installed.
    """
    nncf = load_nncf()
    advanced = nncf.AdvancedQuantizationParameters
    samples = [{PIXELS: one[None]} for batch in pixels for one in batch]
    with quiet():
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
    """NNCF, without the usage statistics that it sends unless somebody has opted out."""
    with patch.dict(os.environ, {"CI": "true"}):  # where it sends none
        return load("nncf", "--int8")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress and the advice that NNCF and onnxruntime print."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def folded(graph: onnx.ModelProto, room: Path) -> onnx.ModelProto:
    """The graph with its norms folded into the convolutions, and all shapes."""
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
