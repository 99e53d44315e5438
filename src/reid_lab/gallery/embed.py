"""From image files to embeddings: decoded by threads, embedded in batches, up to one exit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_lab.budget.machine import find_device
from reid_lab.checkpoint import open_model
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.records import DatasetError
from reid_lab.dataset.transforms import normalise
from reid_lab.errors import UserError
from reid_lab.gallery.images import Named
from reid_lab.model import ReidModule


@dataclass(frozen=True, eq=False)
class Embedder:
    """A trained network up to `exit`, for images of (height, width)."""

    model: ReidModule
    fingerprint: str
    exit: str
    image: tuple[int, int]
    device: torch.device

    @staticmethod
    def load(checkpoint: Path, exit: str | None = None, device: str = "auto") -> Embedder:
        """The network of a checkpoint. Without `exit`, all of it.

        Raises:
            UserError: no checkpoint of this suite, an unknown exit, or no such device.
        """
        model, image, key = open_model(checkpoint)
        exit = exit or model.exit_names[-1]
        if exit not in model.exit_names:
            raise UserError(
                f"unknown exit {exit!r} of {checkpoint}: choose one of "
                f"{', '.join(model.exit_names)}"
            )
        if exit in model.exit_signs:
            raise UserError(
                f"exit {exit!r} of {checkpoint} ranks by a metric with negative directions, which "
                "no gallery is searched by: train with model.kissme_clip=true, or choose another "
                f"exit of {', '.join(n for n in model.exit_names if n not in model.exit_signs)}"
            )
        where = find_device(device)
        return Embedder(model.to(where), key, exit, image, where)

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, D) float32 on the CPU. Later exits are not computed.

        Raises:
            UserError: they do not fit in memory.
        """
        try:
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)
            exits = self.model.exits(normalise(images))
            return next(e for name, e in exits if name == self.exit).float().cpu()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise UserError(
                    f"{len(pixels)} images at a time do not fit in memory: give a smaller "
                    "--batch-size"
                ) from error
            raise

    @cached_property
    def dim(self) -> int:
        return self(np.zeros((1, *self.image, 3), np.uint8)).shape[1]


@dataclass(frozen=True)
class EmbeddedBatch:
    """Some `images` with their `embeddings` (n, D), and why others could not be read."""

    images: list[Named]
    embeddings: Tensor
    broken: list[str]

    def __len__(self) -> int:
        return len(self.images) + len(self.broken)


def embedded(
    embedder: Embedder, images: Sequence[Named], batch_size: int, full: bool = False
) -> Iterator[EmbeddedBatch]:
    """All `images`, a batch at a time. While the network has one, the next is decoded.

    Args:
        full: fill up every batch to `batch_size`. What a network computes for an image differs in
            the last bits with the size of its batch; so filled, it does not depend on which other
            images there are, nor on where an interrupted command stopped.
    """
    batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    read = partial(_read, size=embedder.image)
    try:
        ahead = [pool.submit(read, image) for image in batches[0]] if batches else []
        for number, batch in enumerate(batches, 1):
            now = [future.result() for future in ahead]
            if number < len(batches):
                ahead = [pool.submit(read, image) for image in batches[number]]
            good = [i for i, image in enumerate(now) if isinstance(image, np.ndarray)]
            embeddings = torch.empty(0, embedder.dim)
            if good:
                pixels = np.stack([now[i] for i in good])
                fill = batch_size - len(good) if full else 0
                embeddings = embedder(np.pad(pixels, ((0, fill), *[(0, 0)] * 3)))[: len(good)]
            broken = [text for text in now if isinstance(text, str)]
            yield EmbeddedBatch([batch[i] for i in good], embeddings, broken)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(image: Named, size: tuple[int, int]) -> np.ndarray | str:
    """(H, W, 3) uint8, or what is wrong with the file."""
    try:
        return resize(decode(image.path), *size)
    except DatasetError as error:
        return str(error)
