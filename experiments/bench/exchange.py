"""`dataset.exchange` with gloo: what a process keeps of Market-1501, and what a step then costs."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from experiments.bench.together import together
from reid_lab.dataset.device import augment_batch
from reid_lab.dataset.exchange import exchange
from reid_lab.dataset.loading import ExchangedDraws, RankSampler, TrainDraws
from reid_lab.dataset.records import Split
from reid_lab.dataset.sampler import PKSampler
from reid_lab.dataset.transforms import Transforms

PEOPLE, IMAGES = 751, 12_936  # of Market-1501, to train on
P, K = 18, 4
WARM_UP, STEPS = 5, 40


@dataclass(frozen=True)
class Exchanged:
    """Medians over the steps of the first process, with its part of a batch of `P` x `K`.

    Attributes:
        whole_bytes, kept_bytes: bytes of training images per process, without and with the
            exchange.
        received_bytes: bytes received from other processes per step.
        part_draw_ms, draw_ms: time of the loader's random draws, without and with the exchange.
        exchange_ms: time to gather the images to send and to exchange them.
        crop_ms: time to crop the part, which both ways do.
    """

    processes: int
    whole_bytes: int
    kept_bytes: int
    received_bytes: int
    part_draw_ms: float
    draw_ms: float
    exchange_ms: float
    crop_ms: float


@dataclass(frozen=True)
class Exchanges:
    """The measurements by number of processes."""

    found: Sequence[Exchanged]

    def table(self) -> Table:
        table = Table(title="exchange of training images, medians of a step", title_justify="left")
        for head in ("processes", "kept, MB", "received, MB", "exchange, ms", "crops, ms"):
            table.add_column(head, justify="right")
        for each in self.found:
            sizes = (f"{size / 1e6:.1f}" for size in (each.kept_bytes, each.received_bytes))
            times = (f"{ms:.2f}" for ms in (each.exchange_ms, each.crop_ms))
            table.add_row(str(each.processes), *sizes, *times)
        return table

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(each) for each in self.found]


def bench_exchange(
    counts: Sequence[int] = (2, 3), images: int = IMAGES, size: tuple[int, int] = (256, 128)
) -> Exchanges:
    """Measure so many processes of this machine, one after the other."""
    firsts = (together(count, measured, images, Transforms(*size))[0] for count in counts)
    return Exchanges([Exchanged(**first) for first in firsts])


def measured(rank: int, processes: int, images: int, transforms: Transforms) -> dict[str, Any]:
    """Measure one process of several, on random pixels; each has to call it."""
    rows = [(f"{i}.jpg", 1 + i % PEOPLE, 1 + i % 6, 0) for i in range(images)]
    split = Split.of(Path(), rows)
    indices = list(RankSampler(images, rank, processes))
    kept = torch.randint(256, (len(indices), 3, *transforms.train_size), dtype=torch.uint8)
    sampler = PKSampler(split.pids, P, K, 0, rank, processes)
    part = TrainDraws(split, transforms, 0)
    shared = ExchangedDraws(split, transforms, 0, rank, processes)
    times: dict[str, list[float]] = defaultdict(list)
    received: list[int] = []
    for step in range(WARM_UP + STEPS):
        with clock(times["part_draw_ms"]):
            sampler.whole = False
            part.__getitems__(sampler.batch(step))
        with clock(times["draw_ms"]):
            sampler.whole = True
            batch = shared.__getitems__(sampler.batch(step))
        torch.distributed.barrier()
        with clock(times["exchange_ms"]):
            arrived = exchange(kept[batch["sent"]], batch["counts"])
        with clock(times["crop_ms"]):
            augment_batch(arrived, batch, transforms)
        own = int(batch["counts"][1, rank])
        received.append((len(arrived) - own) * kept[0].nbytes)
    medians: dict[str, Any] = {name: statistics.median(of[WARM_UP:]) for name, of in times.items()}
    arriving = int(statistics.median(received[WARM_UP:]))
    sizes = (processes, images * kept[0].nbytes, kept.nbytes, arriving)
    return asdict(Exchanged(*sizes, **medians))


@contextmanager
def clock(times: list[float]) -> Iterator[None]:
    """Append the milliseconds that a block takes."""
    start = time.perf_counter()
    yield
    times.append(1_000 * (time.perf_counter() - start))
