"""Callbacks and processes of a trainer; embeddings of images, gathered from all processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from reid_lab.backbone.modes import evaluating
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.output.console import progress
from reid_lab.retrieval.processes import ALONE, Processes

C = TypeVar("C", bound=pl.Callback)


def callbacks_of(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    """The trainer's callbacks of a class, in order."""
    return [c for c in trainer.callbacks if isinstance(c, kind)]  # type: ignore[attr-defined]


def processes_of(trainer: pl.Trainer) -> Processes:
    """The processes of a run, which rank together."""
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return ALONE
    return Processes(trainer.global_rank, trainer.world_size)


def embed_training_images(trainer: pl.Trainer, module: ReidModule) -> dict[str, Tensor]:
    """Exit -> (N, D) float32 on the CPU, in the order of the training split, unaugmented."""
    loader = _with_progress(data_of(trainer).train_images_loader(), trainer)
    rows = embed_batches(loader, trainer, module)
    return {name: values for name, values in rows.items() if name != "index"}


@torch.inference_mode()
def embed_batches(
    batches: Iterable[Any],
    trainer: pl.Trainer,
    module: ReidModule,
    embed: Callable[[Tensor], dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Embed images at the trainer's precision, on all of its processes.

    Args:
        embed: views (N, V, 3, H, W) -> exits; None takes the module's `embed`.

    Returns:
        Exit -> (N, D) float32 on the CPU, in the order of the batches' `index`, and `index` (N,).
    """
    collected: dict[str, list[Tensor]] = defaultdict(list)
    with evaluating(module):
        for batch in batches:
            batch = trainer.strategy.batch_to_device(batch)
            with trainer.precision_plugin.forward_context():
                exits = (embed or module.embed)(batch["image"])
            collected["index"].append(batch["index"])
            for name, rows in exits.items():
                collected[name].append(rows)
    return gather_rows(trainer, collected)


def gather_rows(
    trainer: pl.Trainer, collected: Mapping[str, Sequence[Tensor]]
) -> dict[str, Tensor]:
    """Gather the rows of all processes on the CPU, in the order of `index`, each once.

    Samplers pad so that all ranks have the same number of rows; duplicates are dropped.
    """
    rows = {name: torch.cat(list(parts)) for name, parts in collected.items()}
    if trainer.world_size > 1:
        rows = {
            name: trainer.strategy.all_gather(part).flatten(0, 1) for name, part in rows.items()
        }
    _, first = np.unique(rows["index"].cpu().numpy(), return_index=True)
    return {name: part.cpu()[torch.from_numpy(first)] for name, part in rows.items()}


def _with_progress(loader: DataLoader[Any], trainer: pl.Trainer) -> Any:
    """The loader's batches, with a progress bar if the trainer shows one."""
    hidden = not trainer.is_global_zero or trainer.progress_bar_callback is None
    with progress(disable=hidden) as bar:
        yield from bar.track(loader, description="embed the training images")
