"""From image files to embeddings, in batches; files are decoded by threads."""

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
from reid_lab.files.image_files import find_images
from reid_lab.gallery.images import Labelled
from reid_lab.model import ReidModule


@dataclass(frozen=True, eq=False)
class Embedder:
    """A trained network up to `exit`, for images of (height, width).

    `fingerprint` is that of its checkpoint.
    """

    model: ReidModule
    fingerprint: str
    exit: str
    image: tuple[int, int]
    device: torch.device

    @staticmethod
    def load(checkpoint: Path, exit: str | None = None, device: str = "auto") -> Embedder:
        """The network of a checkpoint, up to `exit`; None is the last one.

        Raises:
            UserError: not a checkpoint of reid_lab, an unknown exit, or no such device.
        """
        model, image, key = open_model(checkpoint)
        exit = exit or model.exit_names[-1]
        if exit not in model.exit_names:
            raise UserError(
                f"unknown exit {exit!r} of {checkpoint}; available: {', '.join(model.exit_names)}"
            )
        if exit in model.exit_signs:
            raise UserError(
                f"exit {exit!r} of {checkpoint} ranks by a metric with negative directions, which "
                "no gallery is searched by: train with model.kissme_clip=true, or choose another "
                f"exit of {', '.join(n for n in model.exit_names if n not in model.exit_signs)}"
            )
        where = find_device(device)
        return Embedder(model.to(where), key, exit, image, where)

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, D) float32 on the CPU. Later exits are not computed.

        Raises:
            UserError: they do not fit in memory.
        """
        return _embed(self.model, pixels, self.exit)[self.exit]

    @cached_property
    def dim(self) -> int:
        return self(np.zeros((1, *self.image, 3), np.uint8)).shape[1]


@dataclass(frozen=True)
class EmbeddedBatch:
    """`images` with their `embeddings` (n, D); `broken`: messages of files that cannot be read."""

    images: list[Labelled]
    embeddings: Tensor
    broken: list[str]

    def __len__(self) -> int:
        return len(self.images) + len(self.broken)


def embedded(
    embedder: Embedder, images: Sequence[Labelled], batch_size: int, full: bool = False
) -> Iterator[EmbeddedBatch]:
    """Embed all `images`, a batch at a time.

    Args:
        embedder: a network up to an exit.
        images: to read.
        batch_size: images at a time.
        full: pad every batch to `batch_size`. The last bits of an embedding depend on the size
            of its batch; padded, they depend neither on the other images nor on where an
            interrupted command stopped.
    """
    for batch, decoded in _decoded(images, embedder.image, batch_size):
        good = [i for i, image in enumerate(decoded) if isinstance(image, np.ndarray)]
        embeddings = torch.empty(0, embedder.dim)
        if good:
            pixels = np.stack([decoded[i] for i in good])
            fill = batch_size - len(good) if full else 0
            embeddings = embedder(np.pad(pixels, ((0, fill), *[(0, 0)] * 3)))[: len(good)]
        broken = [text for text in decoded if isinstance(text, str)]
        yield EmbeddedBatch([batch[i] for i in good], embeddings, broken)


def embed(
    model: ReidModule | Path | str,
    images: Path | str | Sequence[Path | str] | np.ndarray,
    size: tuple[int, int] | None = None,
    batch_size: int = 64,
    device: str = "auto",
) -> dict[str, Tensor]:
    """The embeddings of images at every exit of a trained network.

    Args:
        model: a checkpoint of a run, or a network (`load_model`), which is left in eval mode on
            `device`.
        images: a folder, whose images are embedded in the sorted order of their paths, subfolders
            included; paths of image files; or pixels (N, H, W, 3) uint8 RGB.
        size: (height, width) that files are resized to; None takes the checkpoint's. A network
            does not know it: give it, or pixels.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.

    Returns:
        Exit -> (N, D) float32 on the CPU, cheapest exit first.

    Raises:
        UserError: not a checkpoint, no such device, no `size`, or images that do not fit in memory.
        DatasetError: an image that cannot be read.
    """
    if not isinstance(model, ReidModule):
        model, trained, _ = open_model(model)
        size = size or trained
    model = model.eval().to(find_device(device))
    parts = [_embed(model, pixels) for pixels in _batches(images, size, batch_size)]
    if not parts:
        raise UserError("there are no images to embed")
    return {name: torch.cat([part[name] for part in parts]) for name in model.exit_names}


def _batches(
    images: Path | str | Sequence[Path | str] | np.ndarray,
    size: tuple[int, int] | None,
    batch_size: int,
) -> Iterator[np.ndarray]:
    """Pixels (n, H, W, 3) uint8."""
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise UserError(
                f"pixels must be (N, H, W, 3) uint8 RGB, these are {images.shape} {images.dtype}"
            )
        yield from (images[i : i + batch_size] for i in range(0, len(images), batch_size))
        return
    if size is None:
        raise UserError("a network does not know its image size: give size=(height, width)")
    if isinstance(images, (str, Path)):
        paths, _ = find_images(Path(images))
    else:
        paths = [Path(path) for path in images]
    for _, decoded in _decoded([Labelled(path) for path in paths], size, batch_size):
        for text in decoded:
            if isinstance(text, str):
                raise DatasetError(text)
        yield np.stack(decoded)


@torch.inference_mode()
def _embed(model: ReidModule, pixels: np.ndarray, last: str | None = None) -> dict[str, Tensor]:
    """(N, H, W, 3) uint8 -> exit -> (N, D) float32 on the CPU; no exits after `last`."""
    found = {}
    try:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(model.device)
        for name, rows in model.exits(normalise(images)):
            found[name] = rows.float().cpu()
            if name == last:
                break
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise UserError(
                f"{len(pixels)} images at a time do not fit in memory: give a smaller --batch-size"
            ) from error
        raise
    return found


def _decoded(
    images: Sequence[Labelled], size: tuple[int, int], batch_size: int
) -> Iterator[tuple[Sequence[Labelled], list[np.ndarray | str]]]:
    """Batches of images with their pixels (H, W, 3), or what is wrong with a file.

    The next batch is decoded by threads while one is in use.
    """
    batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    read = partial(_read, size=size)
    try:
        ahead = [pool.submit(read, image) for image in batches[0]] if batches else []
        for number, batch in enumerate(batches, 1):
            now = [future.result() for future in ahead]
            if number < len(batches):
                ahead = [pool.submit(read, image) for image in batches[number]]
            yield batch, now
    finally:
        pool.shutdown(cancel_futures=True)


def _read(image: Labelled, size: tuple[int, int]) -> np.ndarray | str:
    """(H, W, 3) uint8, or what is wrong with the file."""
    try:
        return resize(decode(image.path), *size)
    except DatasetError as error:
        return str(error)
