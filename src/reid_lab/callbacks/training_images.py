"""Embeddings of the training images, for what is fitted on them after training."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from reid_lab.callbacks.gather import gather_rows
from reid_lab.dataset import ReidDataModule
from reid_lab.model import ReidModule


@torch.inference_mode()
def embed_training_images(trainer: pl.Trainer, module: ReidModule) -> dict[str, Tensor]:
    """Exit -> (N, D) float32 on the CPU, in the order of the training split.

    Unaugmented, at the precision of the trainer, on all of its processes.
    """
    data = cast(ReidDataModule, trainer.datamodule)  # type: ignore[attr-defined]
    collected: dict[str, list[Tensor]] = defaultdict(list)
    training = module.training
    module.eval()
    for batch in _shown(data.train_images_loader(), trainer):
        batch = trainer.strategy.batch_to_device(batch)
        with trainer.precision_plugin.forward_context():
            exits = module.embed(batch["image"])
        collected["index"].append(batch["index"])
        for name, rows in exits.items():
            collected[name].append(rows)
    module.train(training)
    gathered = gather_rows(trainer, collected)
    return {name: rows for name, rows in gathered.items() if name != "index"}


def _shown(loader: DataLoader[Any], trainer: pl.Trainer) -> Any:
    """The loader's batches, with a bar where the trainer shows one."""
    if not trainer.is_global_zero or trainer.progress_bar_callback is None:
        return loader
    from rich.progress import track

    return track(loader, "embed the training images")
