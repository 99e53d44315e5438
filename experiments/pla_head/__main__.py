"""Which reading of PLA's head learns from an ImageNet start, on held-out people.

python -m experiments.pla_head --root CUHK03-NP [--batches 200] [--readings bare-max bn-max ...]

Each reading starts from the same weights, on the same batches; the losses of the training batches
and mAP and Rank-1 on held-out training people are appended to `curves.csv` as they are computed.
The test split is not read. Needs `reid-lab weights fetch mobilenetv2`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from experiments.tables import read, write
from reid_lab.cli.command import count
from reid_lab.config.build import build_data, build_model
from reid_lab.config.overrides import composed
from reid_lab.dataset import ReidDataModule
from reid_lab.model import PLA
from reid_lab.retrieval import Ids, rank

HERE = Path(__file__).parent
READINGS = ("bare-max", "bn-max", "bn_relu-max", "neck-max", "bare-avg", "bn-avg", "neck-avg")
SETTINGS = (
    "model=pla",
    "dataset=cuhk03_np",
    "backbone=mobilenetv2",
    "dataset.val_identities=100",
    "dataset.transforms.height=128",
    "dataset.transforms.width=64",
    "dataset.transforms.erase=0",
    "dataset.p=16",
    "dataset.k=4",
    "dataset.cache=disk",
    "dataset.workers=0",
)
EVERY = 100  # batches between evaluations


def main(argv: Sequence[str] | None = None) -> int:
    args = options(argv)
    torch.set_num_threads(1)
    for reading in args.readings:
        for row in train(reading, args.root, args.batches, args.seed):
            table = args.out / "curves.csv"
            write(table, [*read(table), row])
            print(row, flush=True)
    return 0


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.pla_head")
    parser.add_argument("--root", type=Path, required=True, help="folder of CUHK03-NP, detected")
    parser.add_argument("--batches", type=count, default=200)
    parser.add_argument("--readings", nargs="+", default=READINGS, metavar="HEAD-POOL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the table")
    return parser.parse_args(argv)


def train(reading: str, root: Path, batches: int, seed: int) -> Iterator[dict[str, Any]]:
    """Train a reading (HEAD-POOL) at a constant rate; one row for every `EVERY` batches."""
    head, pool = reading.split("-")
    cfg = composed(
        [*SETTINGS, f"dataset.root={root}", f"seed={seed}", f"model.head={head}"]
        + [f"model.pool={pool}"]
    )
    pl.seed_everything(seed, verbose=False)
    data = build_data(cfg)
    data.setup("fit")
    model = build_model(cfg, data.identities)
    assert isinstance(model, PLA)
    optimiser = model.configure_optimizers()
    model.train()
    start, seen = time.perf_counter(), []
    for number, batch in enumerate(training_batches(data), 1):
        losses = model.losses(batch)
        seen.append({name: float(loss.detach()) for name, loss in losses.items()})
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        if number % EVERY == 0:
            means = {n: sum(row[n] for row in seen) / len(seen) for n in losses}
            row = {"head": head, "pool": pool, "seed": seed, "batch": number, **means}
            seconds = round(time.perf_counter() - start)
            yield {**row, **accuracies(model, data), "seconds": seconds}
            seen = []
        if number == batches:
            return


def training_batches(data: ReidDataModule) -> Iterator[dict[str, Tensor]]:
    loader = data.train_dataloader()
    for batch in chain.from_iterable(repeat(loader)):
        yield data.on_after_batch_transfer(batch, 0)


@torch.no_grad()
def accuracies(model: PLA, data: ReidDataModule) -> dict[str, float]:
    """mAP and Rank-1 on the held-out people: of the embedding, and mAP of each head's part."""
    model.eval()
    batches = (data.on_after_batch_transfer(batch, 0) for batch in data.held_out_loader())
    rows = torch.cat([model.embed(batch["image"])["embedding"] for batch in batches])
    model.train()
    query, gallery = map(Ids.of, data.splits("val"))
    n = len(query)
    triplet, classes = rows.chunk(2, 1)
    ranking = rank(rows[:n], rows[n:], query, gallery)
    return {
        "mAP": float(ranking.mAP),
        "rank1": float(ranking.cmc(1)),
        "mAP_triplet": float(rank(triplet[:n], triplet[n:], query, gallery).mAP),
        "mAP_cross_entropy": float(rank(classes[:n], classes[n:], query, gallery).mAP),
    }


if __name__ == "__main__":
    sys.exit(main())
