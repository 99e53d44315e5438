"""Train a layer on PROCESSES processes up to STEPS, and save the batches that each of them gets.

python -m tests.record_batches PEOPLE FOLDER PROCESSES STEPS [CHECKPOINT]

Each leaves FOLDER/PROCESSES-RANK.pt, and together they leave FOLDER/PROCESSES.ckpt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from reid_lab.dataset.device import DeviceImages
from reid_lab.dataset.loading import Batch
from tests.dataset.test_exchange import SOME, data_of


class Recorder(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.seen: dict[str, list[Batch]] = {name: [] for name in ("train", "test", "fit", "some")}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["train"].append(batch)
        return self.layer(batch["image"].mean((2, 3))).mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["test"].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(people: str, folder: str, processes: str, steps: str, checkpoint: str | None = None):
    data, model = data_of(Path(people), exchange=int(processes) > 1), Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(processes),
        strategy="ddp" if int(processes) > 1 else "auto",
        max_steps=int(steps),
        max_epochs=-1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        callbacks=[ModelCheckpoint(folder, processes, every_n_train_steps=int(steps))],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    trainer.limit_val_batches = 1.0
    trainer.validate(model, data, verbose=False)
    for name, rows in (("fit", None), ("some", SOME)):
        loader = data.train_images_loader(rows)
        model.seen[name] = [trainer.strategy.batch_to_device(batch) for batch in loader]
    kept = [data.images_of(part) for part in ("train", "test")]
    device = torch.device("cpu")
    counts = [len(images.on(device)) for images in kept if isinstance(images, DeviceImages)]
    torch.save({**model.seen, "kept": counts}, f"{folder}/{processes}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
