"""LOMO features of CUHK03's images, computed once for each reading of Retinex."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from reid_lab.classical import Lomo
from reid_lab.classical.retinex import Reading
from reid_lab.dataset import ReidDataModule, Split, Transforms, read_cuhk03_np
from reid_lab.dataset.splits import query_and_gallery
from reid_lab.files.atomic import replacing


def cuhk03(root: Path) -> ReidDataModule:
    size = Transforms(128, 48, enlarge=1, flip=0, erase=0)
    return ReidDataModule(
        root, partial(read_cuhk03_np, boxes="detected"), size, batch_size=2, workers=0
    )


def held_out_half(train: Split, seed: int) -> tuple[np.ndarray, Split, Split]:
    """Return which images (N,) are of the half to learn from, and the others' query and gallery.

    `tracks` of query and gallery are positions in `train`.
    """
    people = np.random.default_rng(seed).permutation(train.identities)
    in_half = np.isin(train.pids, people[: len(people) // 2])
    numbered = replace(train, tracks=np.arange(len(train)))
    return in_half, *query_and_gallery(numbered.take(~in_half))


@torch.no_grad()
def features(
    data: ReidDataModule, part: str, folder: Path | None, reading: Reading = "deviations"
) -> torch.Tensor:
    """(N, 26960) of the training images, or of query and gallery (`part="test"`), in their order.

    Args:
        folder: cache of the features as .npy files; None: none.
    """
    cached = folder / f"{part}_{reading}.npy" if folder else None
    if cached is not None and cached.is_file():
        return torch.from_numpy(np.load(cached))
    loader = data.train_images_loader() if part == "train" else data.test_dataloader()
    lomo, started = Lomo(reading), time.process_time()
    rows = torch.empty(len(loader.dataset), lomo.dim)  # type: ignore[arg-type]
    for batch in loader:
        rows[batch["index"]] = lomo(batch["pixels"][:, 0])
    spent = time.process_time() - started
    print(f"{part}, {reading}: {len(rows) / spent:.0f} images per second of CPU time, decoded")
    if cached is not None:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached) as beside, beside.open("wb") as file:
            np.save(file, rows.numpy())
    return rows
