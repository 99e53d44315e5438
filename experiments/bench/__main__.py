"""Our loader, training step and ranking against plain code, by ratio in one run.

python -m experiments.bench       (make bench)
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from reid_lab.backbone import SmallResNet
from reid_lab.dataset import PKSampler, ReidDataModule, Split, Transforms, read_layout
from reid_lab.dataset.images import Cache
from reid_lab.dataset.synthetic import Recipe, render
from reid_lab.dataset.transforms import MEAN, STD
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe
from reid_lab.provenance import commit, machine
from reid_lab.retrieval import Ids, rank
from reid_lab.run import quiet

P, K, ROUNDS = 16, 4, 5
RECIPE = Recipe(train_identities=64, test_identities=2, distractors=0, junk=0)


class PlainImages(Dataset[tuple[torch.Tensor, int]]):
    """What most repositories do: PIL, then torchvision's transforms, an image at a time."""

    def __init__(self, split: Split, height: int, width: int) -> None:
        self.split = split
        enlarged = (round(height * 1.125), round(width * 1.125))
        self.transform = v2.Compose(
            [
                v2.Resize(enlarged, antialias=True),
                v2.RandomCrop((height, width)),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
                v2.RandomErasing(0.5, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3)),
            ]
        )

    def __getitem__(self, draw: tuple[int, int]) -> tuple[torch.Tensor, int]:
        index, _ = draw
        with Image.open(self.split.path(index)) as image:
            return self.transform(image.convert("RGB")), int(self.split.pids[index])


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(works: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds of each, round by round, so that what else the machine does hits all alike."""
    for work in works.values():
        work()  # warm up
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    return {name: [times[name] for times in rounds] for name in works}


def consume(batches: Iterable[Any], finish: Callable[[Any], Any] = lambda batch: batch) -> None:
    for batch in batches:
        finish(batch)


def module(root: Path, size: tuple[int, int], cache: Cache) -> ReidDataModule:
    reader = partial(read_layout, name="bench")
    return ReidDataModule(root, reader, Transforms(*size), P, K, cache=cache, workers=0)


def bench_loader(root: Path, size: tuple[int, int]) -> tuple[dict[str, list[float]], int]:
    """Seconds for an epoch of normalised, erased float32 batches, and its images."""
    plain_split = read_layout(root, "bench").train
    sampler = PKSampler(plain_split.pids, P, K)
    plain = DataLoader(PlainImages(plain_split, *size), batch_sampler=sampler)
    works: dict[str, Callable[[], Any]] = {"PIL + torchvision": lambda: consume(plain)}
    for cache in ("none", "memory"):
        data = module(root, size, cache)  # type: ignore[arg-type]
        loader = data.train_dataloader()
        finish = partial(data.on_after_batch_transfer, dataloader_idx=0)
        works[f"ours, cache={cache}"] = partial(consume, loader, finish)
    return interleaved(works), len(sampler) * P * K


def bench_step(root: Path) -> tuple[dict[str, list[float]], int]:
    """Seconds for 20 steps of a small DaRe, by Lightning and by a bare loop."""
    steps, data = 20, module(root, (128, 64), "memory")
    data.train_dataloader()  # decodes

    def model() -> DaRe:
        pl.seed_everything(0, verbose=False)
        network = SmallResNet(24)
        return DaRe(network, BatchHardTriplet(), hidden=256).to(memory_format=torch.channels_last)

    def lightning() -> None:
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

    def bare() -> None:
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

    return interleaved({"bare PyTorch loop": bare, "ours, by Lightning": lightning}), steps * P * K


def bench_ranking() -> tuple[dict[str, list[float]], int]:
    """Seconds to rank Market-1501's 15,913 gallery images for its 3,368 queries, 128-D."""
    rng = np.random.default_rng(0)
    sizes = {"query": 3368, "gallery": 15913}
    ids = {
        part: Ids(
            torch.from_numpy(rng.integers(1, 751, n)),
            torch.from_numpy(rng.integers(1, 7, n)),
            np.empty(n, dtype=object),
        )
        for part, n in sizes.items()
    }
    rows = {part: torch.randn(n, 128) for part, n in sizes.items()}
    works = {
        "full distance matrix + argsort": lambda: full_argsort(rows["query"], rows["gallery"]),
        "ours: CMC, mAP, mINP": lambda: rank(
            rows["query"], rows["gallery"], ids["query"], ids["gallery"]
        ),
    }
    return interleaved(works), sizes["query"]


def full_argsort(query: torch.Tensor, gallery: torch.Tensor) -> np.ndarray:
    """What most evaluators start with, before any metric is computed."""
    return np.argsort(torch.cdist(query, gallery).numpy(), axis=1)


def main() -> None:
    quiet()
    console = Console(width=100)
    with tempfile.TemporaryDirectory() as folder:
        root = render(Path(folder) / "people", RECIPE)
        sections = {
            "loader to 256x128, images/s": bench_loader(root, (256, 128)),
            "loader to 128x64, images/s": bench_loader(root, (128, 64)),
            "training steps, images/s": bench_step(root),
            "ranking, queries/s": bench_ranking(),
        }
    console.print(f"{machine()}; torch {torch.__version__}, {torch.get_num_threads()} threads;")
    console.print(f"commit {commit()}; median of {ROUNDS} interleaved rounds, no worker processes")
    for title, (times, amount) in sections.items():
        table = Table(title=title, title_justify="left")
        for column in ("", "per second", "ratio to the first"):
            table.add_column(column, justify="right" if column else "left")
        first = next(iter(times.values()))
        for name, taken in times.items():
            ratio = statistics.median(f / t for f, t in zip(first, taken, strict=True))
            per_second = amount / statistics.median(taken)
            table.add_row(name, f"{per_second:,.0f}", f"{ratio:.2f}")
        console.print(table)


if __name__ == "__main__":
    main()
