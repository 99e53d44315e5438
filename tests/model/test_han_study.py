"""experiments.han_synthetic: where the regions of each level lie, over the queries alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from experiments.han_synthetic.__main__ import regions


class Attending:
    """Two levels of one box; the first moves down with the image's brightness."""

    def attention_maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        bright = images.mean((1, 2, 3)) > 0
        top = 0.5 * bright.float()
        moving = torch.stack([0 * top, top, 0 * top + 0.5, top + 0.25], 1)[:, None]
        still = torch.tensor([0.0, 0.5, 1.0, 1.0]).expand(len(images), 1, 4)
        return [(images[:, 0], moving), (images[:, 0], still)]


def test_centres_and_their_deviation() -> None:
    dark, bright = torch.zeros(3, 8, 4, dtype=torch.uint8), torch.full((3, 8, 4), 255).byte()
    images = [dark, bright, dark, bright, bright, bright]  # four queries, then the gallery
    batches = [{"pixels": torch.stack(images[i : i + 3])[:, None]} for i in (0, 3)]
    data: Any = SimpleNamespace(splits=lambda part: ([0] * 4, []), test_dataloader=lambda: batches)
    first, second = regions(cast(Any, Attending()), data)
    assert (first["level"], second["level"]) == (1, 2)
    assert (first["right"], first["down"]) == pytest.approx((0.25, 0.375))
    assert first["down_deviation"] == pytest.approx(0.25 * (4 / 3) ** 0.5)
    assert first["right_deviation"] == 0
    assert (second["right"], second["down"], second["down_deviation"]) == (0.5, 0.75, 0)
