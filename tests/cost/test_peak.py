"""GPUs by the names that CUDA gives them, and the share of their peak."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from reid_lab.cost.peak import PEAKS, arithmetic, peak_flops, share_of_peak


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """Restore the float32 switches afterwards."""
    matmul, conv = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = conv


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989.4),
        ("NVIDIA H100 80GB HBM3", "32-true", 494.7),
        ("NVIDIA H100 PCIe", "16-mixed", 756.5),
        ("NVIDIA H200", "bf16-true", 989.4),
        ("NVIDIA A100 80GB PCIe", "32-true", 156),
        ("NVIDIA L4", "bf16-mixed", 121),
        ("Tesla T4", "16-mixed", 65),
        ("Tesla T4", "32-true", 8.1),  # it has no TF32
        ("Tesla T4", "bf16-mixed", None),
        ("NVIDIA H100 80GB HBM3", "64-true", None),
        ("NVIDIA L40", "bf16-mixed", None),  # not L4
        ("NVIDIA GeForce RTX 3090 Ti", "bf16-mixed", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16-mixed", None),
        ("cpu", "32-true", None),
    ],
)
def test_a_gpu_is_known_by_its_whole_name(name: str, precision: str, tflops: float | None) -> None:
    torch.set_float32_matmul_precision("high")
    assert peak_flops(name, precision) == (tflops and pytest.approx(tflops * 1e12))


@pytest.mark.parametrize(
    ("matmul", "conv", "number"),
    [("high", False, "tf32"), ("highest", True, "tf32"), ("highest", False, "fp32")],
)
def test_float32_is_tf32_where_it_may_be(matmul: str, conv: bool, number: str) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = conv
    assert arithmetic("32-true") == number
    assert peak_flops("NVIDIA L4", "32-true") == {"tf32": 60e12, "fp32": 30.3e12}[number]


# NVIDIA's data sheets and white papers: dense TFLOP/s of bf16, TF32 and fp32 (without tensor cores)
PUBLISHED = {
    "NVIDIA H100 80GB HBM3": (989.4, 494.7, 66.9),
    "NVIDIA H100 PCIe": (756.5, 378, 51),
    "NVIDIA H100 NVL": (835.5, 417.5, 60),
    "NVIDIA H200": (989.4, 494.7, 66.9),
    "NVIDIA H200 NVL": (835.5, 417.5, 60),
    "NVIDIA A100-SXM4-40GB": (312, 156, 19.5),
    "NVIDIA A100-SXM4-80GB": (312, 156, 19.5),
    "NVIDIA A100-PCIE-40GB": (312, 156, 19.5),
    "NVIDIA A100 80GB PCIe": (312, 156, 19.5),
    "NVIDIA L4": (121, 60, 30.3),
    "Tesla T4": (None, None, 8.1),
    "NVIDIA GeForce RTX 3090": (71, 35.6, 35.6),
    "NVIDIA GeForce RTX 4090": (165.2, 82.6, 82.6),
}


@pytest.mark.parametrize("name", PEAKS)
def test_peaks_are_the_published_ones(name: str) -> None:
    numbers = ("bf16", "tf32", "fp32")
    assert tuple(PEAKS[name].get(number) for number in numbers) == PUBLISHED[name]


@pytest.mark.parametrize("name", PEAKS)
def test_fewer_bits_are_never_slower(name: str) -> None:
    peaks = PEAKS[name]
    fp16, tf32 = peaks["fp16"], peaks.get("tf32", peaks["fp32"])
    assert fp16 > tf32 >= peaks["fp32"]
    assert peaks.get("bf16", fp16) == fp16


def test_six_flops_a_mul_add() -> None:
    # 1e9 Mul-Adds: 2 GFLOP forward, 4 GFLOP backward; 1000 images/s are 6 of 60 TFLOP/s
    assert share_of_peak(1e9, 1000, 60e12) == pytest.approx(0.1)
