"""The peak performance of a GPU, and the share of it that a training reaches.

The share is model FLOPs utilisation: it counts the forward and backward passes, but no other work
of the device (optimiser, augmentation, a teacher, recomputed activations).
"""

from __future__ import annotations

import torch

# A Mul-Add is 2 FLOPs. The backward pass takes twice the forward's: for each product one for the
# gradient of its input, one for that of its weight.
FLOPS = 2 * (1 + 2)  # FLOPs of a training step for each Mul-Add of the forward pass

# TFLOP/s of dense products that are accumulated in float32, as PyTorch's are; data sheets that
# print them "with sparsity" print twice that. Names are CUDA's, whole: a "3090 Ti", a laptop's
# GPU or a MIG slice is another device. Lightning's own table mixes dense and sparse numbers.
_H100_SXM = {"bf16": 989.4, "fp16": 989.4, "tf32": 494.7, "fp32": 66.9}
_H100_PCIE = {"bf16": 756.5, "fp16": 756.5, "tf32": 378.0, "fp32": 51.0}
_H100_NVL = {"bf16": 835.5, "fp16": 835.5, "tf32": 417.5, "fp32": 60.0}
_A100 = {"bf16": 312.0, "fp16": 312.0, "tf32": 156.0, "fp32": 19.5}
PEAKS = {
    # NVIDIA H100 Tensor Core GPU data sheet, and its architecture white paper for SXM5
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H100 PCIe": _H100_PCIE,
    "NVIDIA H100 NVL": _H100_NVL,
    # NVIDIA H200 Tensor Core GPU data sheet: the arithmetic of H100
    "NVIDIA H200": _H100_SXM,
    "NVIDIA H200 NVL": _H100_NVL,
    # NVIDIA A100 Tensor Core GPU data sheet: SXM and PCIe
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    # NVIDIA L4 Tensor Core GPU data sheet
    "NVIDIA L4": {"bf16": 121.0, "fp16": 121.0, "tf32": 60.0, "fp32": 30.3},
    # NVIDIA T4 data sheet; Turing has neither bfloat16 nor TF32
    "Tesla T4": {"fp16": 65.0, "fp32": 8.1},
    # NVIDIA Ampere GA102 GPU architecture white paper, v2
    "NVIDIA GeForce RTX 3090": {"bf16": 71.0, "fp16": 71.0, "tf32": 35.6, "fp32": 35.6},
    # NVIDIA Ada GPU architecture white paper, v2
    "NVIDIA GeForce RTX 4090": {"bf16": 165.2, "fp16": 165.2, "tf32": 82.6, "fp32": 82.6},
}


def peak_flops(device: str, precision: str) -> float | None:
    """Peak FLOP/s of the GPU that CUDA calls `device`; None if unknown.

    Args:
        precision: Lightning's precision, such as `bf16-mixed`; float32 counts as TF32 if torch may
            use that and the device has it.
    """
    peaks = PEAKS.get(device, {})
    number = arithmetic(precision)
    found = peaks.get(number, peaks.get("fp32") if number == "tf32" else None)
    return None if found is None else 1e12 * found


def arithmetic(precision: str) -> str:
    """Precision of the products in a training: bf16, fp16, tf32, fp32, or `precision`."""
    if precision.startswith("bf16"):
        return "bf16"
    if precision.startswith("16"):
        return "fp16"
    if not precision.startswith("32"):
        return precision
    # convolutions, nearly all of the work, have a separate switch, which is on by default
    products = torch.get_float32_matmul_precision() != "highest"
    return "tf32" if products or torch.backends.cudnn.allow_tf32 else "fp32"


def share_of_peak(mul_adds: float, images_per_second: float, flops: float) -> float:
    """Fraction of the peak `flops` that a training uses at this speed.

    Args:
        mul_adds: Mul-Adds of an image's forward pass.
        flops: FLOP/s of all devices at their peak.
    """
    return FLOPS * mul_adds * images_per_second / flops
