"""Attention maps, from a method that has them to the report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from reid_lab.callbacks import AttentionMaps
from reid_lab.dataset import Transforms
from reid_lab.report.attention import attention
from reid_lab.results import Results
from reid_lab.results.attention import read_attention


def model(pixels: np.ndarray) -> SimpleNamespace:
    def attention_maps(images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        n = len(images)
        boxes = torch.tensor([[0.0, 0, 1, 0.5], [-0.1, 0.5, 0.9, 1]]).expand(n, 2, 4)
        return [(torch.rand(n, 8, 4), boxes), (images.mean(1), boxes)]

    data = SimpleNamespace(
        splits=lambda part: (pixels, None),
        images_of=lambda part: pixels.transpose(0, 3, 1, 2),
        transforms=Transforms(32, 16),
    )
    trainer = SimpleNamespace(datamodule=data)
    return SimpleNamespace(attention_maps=attention_maps, trainer=trainer, device="cpu")


def test_some_queries_are_kept_and_drawn(tmp_path: Path) -> None:
    results = Results()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 32, 16, 3), np.uint8)
    AttentionMaps(images=4).add(results, None, model(pixels))  # type: ignore[arg-type]
    results.write(tmp_path)
    shown = read_attention(tmp_path / "attention.npz")
    assert shown is not None
    assert shown.pixels.shape == (4, 32, 16, 3)
    assert {p.tobytes() for p in shown.pixels} < {p.tobytes() for p in pixels}
    soft, boxes = shown.levels[1]
    np.testing.assert_allclose(boxes[0, 1], [-0.1, 0.5, 0.9, 1], rtol=1e-6)
    brightest = np.unravel_index(soft[0].argmax(), soft[0].shape)
    assert shown.pixels[0][brightest].astype(int).sum() >= shown.pixels[0].astype(int).sum(2).mean()
    figure = attention(shown)
    assert figure is not None
    assert len(figure.axes) == 4 * 5


def test_methods_without_attention_leave_nothing(tmp_path: Path) -> None:
    results = Results()
    AttentionMaps().add(results, None, SimpleNamespace())  # type: ignore[arg-type]
    results.write(tmp_path)
    assert read_attention(tmp_path / "attention.npz") is None
    assert attention(None) is None
