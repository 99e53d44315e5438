from __future__ import annotations

import colorsys

import pytest
import torch

from reid_lab.classical import HsvHistogram
from reid_lab.classical.histogram import rgb_to_hsv


def test_hsv_is_pythons() -> None:
    pixels = torch.randint(0, 256, (1, 3, 20, 10), dtype=torch.uint8)
    ours = rgb_to_hsv(pixels)[0].flatten(1).T
    for rgb, hsv in zip((pixels[0].flatten(1).T / 255).tolist(), ours.tolist(), strict=True):
        assert hsv == pytest.approx(colorsys.rgb_to_hsv(*rgb), abs=1e-5)


def test_histogram_counts_each_stripe() -> None:
    image = torch.zeros(1, 3, 12, 4, dtype=torch.uint8)
    image[:, 0, :6] = 255  # upper half red, lower half black
    features = HsvHistogram(stripes=2, bins=(8, 4, 4))(image)
    assert features.shape == (1, 256)
    assert features[0].nonzero().flatten().tolist() == [0 * 16 + 3 * 4 + 3, 128]
    assert features.pow(2).sum().item() == pytest.approx(1)
