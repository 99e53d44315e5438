"""Epochs of normalised, erased float32 batches in the training process, beside the peers."""

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
from experiments.bench.timing import Section, Work, interleaved, rate
from reid_lab.dataset import PKSampler, ReidDataModule, Transforms, read_layout
from reid_lab.dataset.images import Cache

P, K, WORKERS = 18, 4, (0, 2)
CACHES: tuple[Cache, ...] = ("none", "memory", "disk")
Size = tuple[int, int]


def module(root: Path, size: Size, cache: Cache, workers: int = 0) -> ReidDataModule:
    reader = partial(read_layout, name="bench")
    folder, transforms = str(root / "cache"), Transforms(*size)
    return ReidDataModule(
        root, reader, transforms, P, K, cache=cache, cache_dir=folder, workers=workers
    )


def ours(root: Path, size: Size, cache: Cache, workers: int) -> Work:
    data = module(root, size, cache, workers)
    loader = data.train_dataloader()
    finished = partial(data.on_after_batch_transfer, dataloader_idx=0)
    return lambda: sum(len(finished(batch)["image"]) for batch in loader)


def plain(root: Path, size: Size, workers: int) -> Work:
    split = read_layout(root, "bench").train
    sampler = PKSampler(split.pids, P, K)
    loader = DataLoader(PlainImages(split, *size), batch_sampler=sampler, num_workers=workers)
    return lambda: sum(len(images) for images, _ in loader)


def bench_loader(root: Path, size: Size, with_peers: bool) -> Section:
    """Ratios are to the faster of torchreid's, or of PIL and torchvision's without torchreid."""
    works = peers.loaders(read_layout(root, "bench").train, P, K, WORKERS) if with_peers else {}
    missing = [why for peer in peers.PEERS if with_peers and (why := peers.importable(peer))]
    yardstick = "torchreid"
    if not any(name.startswith(yardstick) for name in works):
        yardstick = "PIL + torchvision"
        works |= {f"{yardstick}, {n} workers": plain(root, size, n) for n in WORKERS}
    for cache in CACHES:
        for n in WORKERS:
            works[f"ours, cache={cache}, {n} workers"] = ours(root, size, cache, n)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the workers keep the cores busy, and torch's threads would spin
    rates = interleaved(works)
    torch.set_num_threads(threads)
    candidates = [name for name in rates if name.startswith(yardstick)]
    reference = max(candidates, key=lambda name: statistics.median(rates[name]))
    title = f"loader to {size[0]}x{size[1]}, images/s, torch in one thread"
    return Section(title, rates, reference, (f"ratios to {reference}", *missing))


def bench_memory(root: Path, epochs: int = 6) -> str:
    """How the proportional memory of training process and workers changes with the epochs."""
    held: dict[str, list[float]] = {}
    for cache in CACHES:
        epoch = ours(root, (256, 128), cache, WORKERS[-1])
        held[cache] = []
        for _ in range(epochs):
            epoch()
            held[cache].append(proportional_mb())
    return "; ".join(
        f"cache={name}: {' '.join(f'{mb:,.0f}' for mb in mbs)} MB" for name, mbs in held.items()
    )


def proportional_mb() -> float:
    """PSS of this process and its children: a page shared by n of them counts 1 / n in each."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.exists():
        return float("nan")  # not Linux
    total = 0
    for pid in ["self", *children.read_text().split()]:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])  # type: ignore[index]
    return total / 1024


def bench_gpu(root: Path) -> str:
    """Images a second that the loader gives and that a ResNet-50 in bf16 trains on."""
    if not torch.cuda.is_available():
        return "not measured: no CUDA device"
    fed = max(rate(ours(root, (256, 128), "memory", n)) for n in (2, os.cpu_count() or 2))
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
    return f"loader {fed:,.0f} images/s; ResNet-50 in bf16, batches of {P * K}: {rate(steps):,.0f}"
