"""Where a network looks: its attention on some queries, for people to look at. HAN, figure 7."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from reid_lab.callbacks.after_ranking import AfterRanking
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.transforms import normalise
from reid_lab.files.atomic import replacing
from reid_lab.model import ReidModule
from reid_lab.retrieval import Evaluation
from reid_lab.types import ImageCount, Seed

FILE = "attention.npz"


@runtime_checkable
class Attentive(Protocol):
    """A method that can show its attention."""

    def attention_maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Images (N, 3, H, W) -> a level: soft map (N, h, w) and hard boxes (N, T, 4).

        A box is left, top, right, bottom as shares of the image; it may reach out of it.
        """


class AttentionMaps(AfterRanking):
    """`results/attention.npz`: pixels (N, H, W, 3), and `soft<l>` and `boxes<l>` of each level.

    Only of methods that have attention; others leave nothing.

    Args:
        images: queries, drawn by `seed`.
    """

    def __init__(self, folder: Path | str, images: ImageCount = 6, seed: Seed = 0) -> None:
        super().__init__(folder)
        self.images, self.seed = images, seed

    def work(self, evaluation: Evaluation, model: ReidModule) -> None:
        if not isinstance(model, Attentive):
            return
        trainer: Any = model.trainer
        pixels = self._queries(cast(ReidDataModule, trainer.datamodule))
        levels = model.attention_maps(normalise(torch.from_numpy(pixels).to(model.device)))
        arrays = {"pixels": pixels.transpose(0, 2, 3, 1)}
        for number, (soft, boxes) in enumerate(levels, 1):
            arrays[f"soft{number}"] = soft.float().cpu().numpy()
            arrays[f"boxes{number}"] = boxes.float().cpu().numpy()
        with replacing(self.results / FILE) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **cast(Any, arrays))

    def _queries(self, data: ReidDataModule) -> np.ndarray:
        """(N, 3, H, W) uint8, as the network sees them."""
        rng = np.random.default_rng(self.seed)
        count = len(data.splits("test")[0])
        chosen = np.sort(rng.permutation(count)[: self.images])
        images = data.images_of("test")
        return np.stack([data.transforms.test(images[i])[0] for i in chosen.tolist()])
