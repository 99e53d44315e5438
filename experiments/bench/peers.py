"""Training loaders of other toolboxes over the same files.

Transforms, data set, sampler and collation are the toolbox's own code.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader

from experiments.bench.timing import Work
from reid_lab.dataset import Split

Rows = list[tuple[str, int, int]]


def rows(split: Split) -> Rows:
    """(path, label, camid) of each image."""
    paths = (str(split.path(i)) for i in range(len(split)))
    pids = {pid: label for label, pid in enumerate(split.identities.tolist())}
    labels = (pids[pid] for pid in split.pids.tolist())
    return list(zip(paths, labels, split.camids.tolist(), strict=True))


def torchreid_loader(split: Split, p: int, k: int, workers: int) -> Work:
    """`ImageDataManager`'s training loader with flip, crop and erasing, at 256x128."""
    import torchreid

    register(torchreid, rows(split))
    manager = torchreid.data.ImageDataManager(
        sources="bench",
        height=256,
        width=128,
        transforms=["random_flip", "random_crop", "random_erase"],
        batch_size_train=p * k,
        workers=workers,
        num_instances=k,
        train_sampler="RandomIdentitySampler",
        use_gpu=False,
    )
    return lambda: sum(len(batch["img"]) for batch in manager.train_loader)


def register(torchreid: Any, train: Rows) -> None:
    class Bench(torchreid.data.ImageDataset):  # type: ignore[misc]
        def __init__(self, root: str = "", **options: Any) -> None:
            super().__init__(train, train[:1], train[:1], **options)

    with contextlib.suppress(ValueError):  # registered for another number of workers
        torchreid.data.register_image_dataset("bench", Bench)


def fastreid_loader(split: Split, p: int, k: int, workers: int) -> Work:
    """fast-reid's data set, transforms (flip, padded crop, erasing), sampler, collation; 256x128.

    A plain DataLoader replaces `DataLoaderX`, which needs CUDA. Normalisation is included here;
    fast-reid does it in `preprocess_image` of its networks.
    """
    from fastreid.config import get_cfg
    from fastreid.data.build import fast_batch_collator
    from fastreid.data.common import CommDataset
    from fastreid.data.samplers import BalancedIdentitySampler
    from fastreid.data.transforms import build_transforms

    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN = [256, 128]
    cfg.INPUT.FLIP.ENABLED = cfg.INPUT.PADDING.ENABLED = cfg.INPUT.REA.ENABLED = True
    data = CommDataset(rows(split), build_transforms(cfg, is_train=True), relabel=True)
    sampler = BalancedIdentitySampler(data.img_items, p * k, k, seed=0)  # never ends
    batch_sampler = BatchSampler(sampler, p * k, True)
    collate = fast_batch_collator
    loader = DataLoader(data, batch_sampler=batch_sampler, num_workers=workers, collate_fn=collate)
    mean = torch.tensor(cfg.MODEL.PIXEL_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(cfg.MODEL.PIXEL_STD).view(1, 3, 1, 1)

    def epoch() -> int:
        batches: Iterable[Any] = islice(loader, len(data) // (p * k))
        return sum(len(batch["images"].sub_(mean).div_(std)) for batch in batches)

    return epoch


PEERS: dict[str, Callable[[Split, int, int, int], Work]] = {
    "torchreid": torchreid_loader,
    "fast-reid": fastreid_loader,
}


@cache
def import_error(peer: str) -> str:
    """Why a toolbox cannot be measured; empty if it can."""
    try:
        __import__(peer.replace("-", ""))
    except Exception as error:  # an old package may raise any error
        return f"{peer}: not measured ({type(error).__name__}: {error})"
    return ""


def loaders(split: Split, p: int, k: int, workers: tuple[int, ...]) -> dict[str, Work]:
    """The loaders of all toolboxes that can be imported, by name and number of workers."""
    available = [peer for peer in PEERS if not import_error(peer)]
    with contextlib.redirect_stdout(io.StringIO()):  # the toolboxes print their settings
        return {
            f"{peer}, {n} workers": PEERS[peer](split, p, k, n)
            for peer in available
            for n in workers
        }
