"""Speed and memory of training data loaders: ours, plain PyTorch and other toolboxes.

Each yields normalised, randomly erased float32 batches in the training process.
"""

from __future__ import annotations

import os
import re
import statistics
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.models import resnet50

from experiments.bench import peers
from experiments.bench.plain import PlainImages
from experiments.bench.timing import Comparison, Work, interleaved, rate
from reid_lab.dataset import PKSampler, ReidDataModule, Transforms, read_layout
from reid_lab.dataset.images import Cache

P, K, WORKERS = 18, 4, (0, 2)
CACHES: tuple[Cache, ...] = ("none", "memory", "disk")
Size = tuple[int, int]


def data_module(root: Path, size: Size, cache: Cache, workers: int = 0) -> ReidDataModule:
    reader = partial(read_layout, name="bench")
    folder, transforms = str(root / "cache"), Transforms(*size)
    return ReidDataModule(
        root, reader, transforms, P, K, cache=cache, cache_dir=folder, workers=workers
    )


def ours(root: Path, size: Size, cache: Cache, workers: int) -> Work:
    data = data_module(root, size, cache, workers)
    loader = data.train_dataloader()
    finish = partial(data.on_after_batch_transfer, dataloader_idx=0)
    return lambda: sum(len(finish(batch)["image"]) for batch in loader)


def plain(root: Path, size: Size, workers: int) -> Work:
    split = read_layout(root, "bench").train
    sampler = PKSampler(split.pids, P, K)
    loader = DataLoader(PlainImages(split, *size), batch_sampler=sampler, num_workers=workers)
    return lambda: sum(len(images) for images, _ in loader)


def bench_loader(root: Path, size: Size, with_peers: bool) -> Comparison:
    """Images/s; ratios are to torchreid's faster loader, or to PIL and torchvision without it."""
    works = peers.loaders(read_layout(root, "bench").train, P, K, WORKERS) if with_peers else {}
    skipped = [why for peer in peers.PEERS if with_peers and (why := peers.import_error(peer))]
    baseline = "torchreid"
    if not any(name.startswith(baseline) for name in works):
        baseline = "PIL + torchvision"
        works |= {f"{baseline}, {n} workers": plain(root, size, n) for n in WORKERS}
    for cache in CACHES:
        for n in WORKERS:
            works[f"ours, cache={cache}, {n} workers"] = ours(root, size, cache, n)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the workers use the cores; more torch threads would only spin
    rates = interleaved(works)
    torch.set_num_threads(threads)
    candidates = [name for name in rates if name.startswith(baseline)]
    reference = max(candidates, key=lambda name: statistics.median(rates[name]))
    title = f"loader to {size[0]}x{size[1]}, images/s, torch in one thread"
    return Comparison(title, rates, reference, (f"ratios to {reference}", *skipped))


def bench_memory(root: Path, epochs: int = 6) -> str:
    """Proportional memory of the training process and its workers after each epoch."""
    memory: dict[str, list[float]] = {}
    for cache in CACHES:
        epoch = ours(root, (256, 128), cache, WORKERS[-1])
        memory[cache] = []
        for _ in range(epochs):
            epoch()
            memory[cache].append(proportional_mb())
    return "; ".join(
        f"cache={name}: {' '.join(f'{mb:,.0f}' for mb in mbs)} MB" for name, mbs in memory.items()
    )


def proportional_mb() -> float:
    """PSS of this process and its children: each counts 1 / n of a page that n of them share."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.exists():
        return float("nan")  # not Linux
    total = 0
    for pid in ["self", *children.read_text().split()]:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])  # type: ignore[index]
    return total / 1024


def bench_gpu(root: Path) -> str:
    """Images/s of the loader and of a ResNet-50 that trains in bf16."""
    if not torch.cuda.is_available():
        return "not measured: no CUDA device"
    loaded = max(rate(ours(root, (256, 128), "memory", n)) for n in (2, os.cpu_count() or 2))
    network = resnet50(num_classes=751).cuda().to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters())
    images = torch.randn(P * K, 3, 256, 128, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.arange(P * K, device="cuda")

    def steps() -> int:
        for _ in range(30):
            with torch.autocast("cuda", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        torch.cuda.synchronize()
        return 30 * P * K

    steps()
    return (
        f"loader {loaded:,.0f} images/s; ResNet-50 in bf16, batches of {P * K}: {rate(steps):,.0f}"
    )
