"""INT8: the network's convolutions and matrix products, quantised by onnxruntime.

Static and symmetric, in QDQ form: weights a channel each, activations by the ranges (MinMax) that
calibration images reach. Weights have 7 bits: processors without INT8 dot products (AVX2, AVX-512
without VNNI) add pairs of products in 16 bits, which overflow with 8. Depthwise convolutions stay
float32: they have few of the Mul-Adds, and the accuracy falls most by them (experiments/int8). The
states that pass between stages stay float32, so that chain and whole compute the same.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from reid_lab.runtime.manifest import PIXELS

QUANTISED = ("Conv", "Gemm", "MatMul")


class PixelReader(CalibrationDataReader):  # type: ignore[misc]
    """Batches of pixels (N, H, W, 3)."""

    def __init__(self, pixels: Iterable[np.ndarray]) -> None:
        self.pixels = iter(pixels)

    def get_next(self) -> Any:
        batch = next(self.pixels, None)
        return None if batch is None else {PIXELS: batch}


def quantised(graph: onnx.ModelProto, pixels: Iterable[np.ndarray], room: Path) -> onnx.ModelProto:
    """The same graph, with the same outputs, in INT8.

    Args:
        room: a folder for temporary files.
        pixels: batches (N, H, W, 3) of calibration images.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises what is done here
    try:
        with tempfile.TemporaryDirectory(dir=room) as folder:
            plain, ready, done = (Path(folder) / f"{name}.onnx" for name in "abc")
            onnx.save(graph, plain)
            # folds the norms into the convolutions
            quant_pre_process(plain, ready, skip_symbolic_shape=True)
            depthwise = grouped(onnx.load(ready))
            quantize_static(
                ready,
                done,
                PixelReader(pixels),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                nodes_to_exclude=depthwise,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"ActivationSymmetric": True},
            )
            return onnx.load(done)
    finally:
        logging.disable(level)


def grouped(graph: onnx.ModelProto) -> list[str]:
    """The names of the convolutions in groups, such as depthwise ones."""
    return [
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]
