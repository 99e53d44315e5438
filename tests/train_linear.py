"""Train one linear layer for a few steps on DEVICES processes, rank, and save weights and ranking.

python -m tests.train_linear PEOPLE DEVICES OUT [NODES [STEPS [CHECKPOINT]]]

NODES machines have DEVICES processes each. It begins with CHECKPOINT, and leaves OUT.ckpt.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from reid_lab.callbacks.embedding import processes_of
from reid_lab.dataset import ReidDataModule, Transforms, read_layout
from reid_lab.loss import BatchHardTriplet
from reid_lab.model.base import State
from reid_lab.model.trinet import TriNetRecipe
from reid_lab.retrieval import Embeddings, Exit, KReciprocal, evaluate
from tests.retrieval.people import crowd


class Linear(TriNetRecipe):
    """No batch norm: its statistics are of one process, and would hide what is tested."""

    exit_names = ("linear",)

    def __init__(self) -> None:
        super().__init__(BatchHardTriplet(), lr=1e-3, iterations=20, decay_from=0.5)
        self.layer = nn.Linear(96, 8)

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        (images,) = state
        return (), self.layer(adaptive_avg_pool2d(images, (8, 4)).flatten(1))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.triplet_losses(self(batch["image"]), batch["pid"], self.exit_names)


def main(
    people: str,
    devices: str,
    out: str,
    nodes: str = "1",
    steps: str = "20",
    checkpoint: str | None = None,
) -> None:
    pl.seed_everything(0, verbose=False)
    reader = partial(read_layout, name="mini")
    data = ReidDataModule(people, reader, Transforms(64, 32), p=4, k=2, workers=0)
    folder = Path(out).parent
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(devices),
        num_nodes=int(nodes),
        strategy="ddp" if int(devices) * int(nodes) > 1 else "auto",
        max_steps=int(steps),
        max_epochs=-1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        # in the training, as a run does it: after it, an epoch may have ended
        callbacks=[ModelCheckpoint(folder, Path(out).name, every_n_train_steps=int(steps))],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(folder),
    )
    model = Linear()
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    query, gallery, q, g = crowd(0, queries=1300, images=400)
    exits = {"x": Exit(query, gallery, 1)}
    found = evaluate(
        Embeddings(q, g, exits), rerankers=[KReciprocal(5, 2)], processes=processes_of(trainer)
    )
    again = found.reranked["x", "k_reciprocal"]
    if trainer.is_global_zero:
        torch.save({**model.state_dict(), "ap": found.rankings["x"].ap, "again": again.ap}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
