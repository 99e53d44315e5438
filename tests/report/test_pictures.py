"""The image of all ranked lists."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_lab.report.pictures import ranked_jpg
from reid_lab.results.queries import ImageCrop, RankedImage, RankedQuery

MOST_BYTES = 800_000


@pytest.mark.parametrize("side", [32, 128, 1000])
def test_ten_lists_of_ten_are_small_whatever_the_size_of_the_images(
    tmp_path: Path, side: int
) -> None:
    rng = np.random.default_rng(0)
    crops = []
    for number in range(10):  # soft patches with the noise of a camera
        patches = Image.fromarray(rng.integers(0, 256, (12, 6, 3), dtype=np.uint8))
        soft = np.asarray(patches.resize((side, 2 * side), Image.Resampling.BICUBIC), float)
        noisy = (soft + rng.normal(0, 6, soft.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{number}.png")
        crops.append(ImageCrop(tmp_path / f"{number}.png"))
    shots = [RankedImage(crop, 1, 1, 0.0, rank % 2 == 0) for rank, crop in enumerate(crops)]
    jpg = ranked_jpg([RankedQuery(crop, 1, 0, "hard", {"fusion": shots}) for crop in crops])
    assert jpg is not None and len(jpg) < MOST_BYTES
    sheet = Image.open(io.BytesIO(jpg))
    assert sheet.size == (1824, 812)
    original = Image.open(crops[0].path).convert("RGB").resize((64, 128))
    shown = sheet.convert("RGB").crop((16, 44, 80, 172))  # the first query, below the heading
    inside = (4, 4, 60, 124)  # of the frame
    difference = np.asarray(shown.crop(inside), float) - np.asarray(original.crop(inside), float)
    assert np.abs(difference).mean() < 10  # of 255
