"""What the processes of a run saw, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor


def gather_rows(
    trainer: pl.Trainer, collected: Mapping[str, Sequence[Tensor]]
) -> dict[str, Tensor]:
    """All processes' rows on the CPU, in the order of `index`, each once.

    The samplers pad, so that the ranks have equally many; what came twice is dropped.
    """
    rows = {name: torch.cat(list(parts)) for name, parts in collected.items()}
    if trainer.world_size > 1:
        rows = {
            name: trainer.strategy.all_gather(part).flatten(0, 1) for name, part in rows.items()
        }
    _, first = np.unique(rows["index"].cpu().numpy(), return_index=True)
    return {name: part.cpu()[torch.from_numpy(first)] for name, part in rows.items()}
