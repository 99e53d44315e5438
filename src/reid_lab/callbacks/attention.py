"""Attention maps of a network for some queries. HAN, figure 7."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from reid_lab.callbacks.after_ranking import AfterRanking
from reid_lab.dataset.datamodule import ReidDataModule, data_of
from reid_lab.dataset.transforms import normalise
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.results.attention import Attention
from reid_lab.retrieval import Evaluation
from reid_lab.types import ImageCount, Seed


@runtime_checkable
class Attentive(Protocol):
    """A method with attention maps."""

    def attention_maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Images (N, 3, H, W) -> a level: soft map (N, h, w) and hard boxes (N, T, 4).

        Boxes are left, top, right, bottom in fractions of the image, and may reach beyond it.
        """


class AttentionMaps(AfterRanking):
    """Adds `attention.npz`: soft maps and hard boxes of each level for some queries.

    Methods without attention add nothing.

    Args:
        images: number of queries, drawn at random.
    """

    def __init__(self, images: ImageCount = 6, seed: Seed | None = None) -> None:
        super().__init__(seed)
        self.images = images

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        if not isinstance(model, Attentive):
            return
        pixels = self._queries(data_of(model.trainer))
        levels = model.attention_maps(normalise(torch.from_numpy(pixels).to(model.device)))
        shown = [
            (soft.float().cpu().numpy(), boxes.float().cpu().numpy()) for soft, boxes in levels
        ]
        results.attention = Attention(pixels.transpose(0, 2, 3, 1), shown)

    def _queries(self, data: ReidDataModule) -> np.ndarray:
        """(N, 3, H, W) uint8 images at the network's input size."""
        rng = np.random.default_rng(self.seed or 0)
        count = len(data.splits("test")[0])
        chosen = np.sort(rng.permutation(count)[: self.images])
        images = data.images_of("test")
        return np.stack([data.transforms.test(images[i])[0] for i in chosen.tolist()])
