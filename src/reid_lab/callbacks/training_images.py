"""Embeddings of training images, for what is fitted on them after training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from reid_lab.callbacks.gather import gather_rows
from reid_lab.dataset import ReidDataModule
from reid_lab.model import ReidModule


def embed_training_images(trainer: pl.Trainer, module: ReidModule) -> dict[str, Tensor]:
    """Exit -> (N, D) float32 on the CPU, in the order of the training split, unaugmented."""
    data = cast(ReidDataModule, trainer.datamodule)  # type: ignore[attr-defined]
    found = embedded(_shown(data.train_images_loader(), trainer), trainer, module)
    return {name: rows for name, rows in found.items() if name != "index"}


@torch.inference_mode()
def embedded(batches: Iterable[Any], trainer: pl.Trainer, module: ReidModule) -> dict[str, Tensor]:
    """Exit -> (N, D) float32 on the CPU, in the order of the batches' `index`, which is kept.

    At the precision of the trainer, on all of its processes.
    """
    collected: dict[str, list[Tensor]] = defaultdict(list)
    training = module.training
    module.eval()
    for batch in batches:
        batch = trainer.strategy.batch_to_device(batch)
        with trainer.precision_plugin.forward_context():
            exits = module.embed(batch["image"])
        collected["index"].append(batch["index"])
        for name, rows in exits.items():
            collected[name].append(rows)
    module.train(training)
    return gather_rows(trainer, collected)


def _shown(loader: DataLoader[Any], trainer: pl.Trainer) -> Any:
    """The loader's batches, with a bar where the trainer shows one."""
    if not trainer.is_global_zero or trainer.progress_bar_callback is None:
        return loader
    from rich.progress import track

    return track(loader, "embed the training images")
