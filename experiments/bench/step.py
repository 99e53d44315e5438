"""Training speed of a small DaRe at 128x64: Lightning compared with a bare PyTorch loop."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import pytorch_lightning as pl
import torch

from experiments.bench.loader import K, P, data_module
from experiments.bench.timing import Comparison, interleaved
from reid_lab.backbone import SmallResNet
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe


def bench_step(root: Path) -> Comparison:
    """Images/s of 150 training steps: few would mostly measure the start."""
    steps, data = 150, data_module(root, (128, 64), "memory")
    data.train_dataloader()  # decodes

    def model() -> DaRe:
        pl.seed_everything(0, verbose=False)
        network = SmallResNet(24)
        return DaRe(network, BatchHardTriplet(), hidden=256).to(memory_format=torch.channels_last)

    def lightning() -> int:
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=steps,
            max_epochs=-1,
            limit_val_batches=0,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model(), data)
        return steps * P * K

    def bare() -> int:
        net = model()
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-4)
        epochs = (data.train_dataloader() for _ in range(steps))
        for batch in islice(chain.from_iterable(epochs), steps):
            batch = data.on_after_batch_transfer(batch, 0)
            exits = net(batch["image"])
            loss = torch.stack([net.loss(e, batch["pid"]) for e in exits.values()]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return steps * P * K

    works = {"bare PyTorch loop": bare, "ours, by Lightning": lightning}
    rates = interleaved(works, rounds=3)
    return Comparison("training steps, images/s", rates, "bare PyTorch loop")
