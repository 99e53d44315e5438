"""Embed image files, pixels and the boxes of a frame, in batches; threads decode files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_lab.checkpoint import open_model
from reid_lab.cost.machine import find_device
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.records import DatasetError
from reid_lab.errors import SpaceWarning, UserError, with_options
from reid_lab.gallery.images import Labelled
from reid_lab.images.boxes import box_problem, crop
from reid_lab.model import ReidModule
from reid_lab.output.arguments import check_whole, described
from reid_lab.runtime.inputs import ImagesInput, Sources, select_exits, source_batches


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
    def load(
        checkpoint: Path,
        exit: str | None = None,
        device: str = "auto",
        check: Callable[[str], None] | None = None,
    ) -> Embedder:
        """Load the network of a checkpoint, up to `exit`; None is the last one.

        Args:
            check: called with the fingerprint before the exit is looked up; raises if it is wrong.

        Raises:
            UserError: not a checkpoint of reid_lab, an unknown exit, or no such device.
        """
        model, image, key = open_model(checkpoint)
        if check is not None:
            check(key)
        (exit,) = select_exits(exit or model.exit_names[-1], model.exit_names, str(checkpoint))
        if exit in model.exit_signs:
            raise UserError(
                f"exit {exit!r} of {checkpoint} ranks by a metric with negative directions, which "
                "no gallery is searched by: train with model.kissme_clip=true and "
                "model.xqda_solver=eigen, or choose another exit of "
                f"{', '.join(n for n in model.exit_names if n not in model.exit_signs)}"
            )
        if model.space_problem and exit != model.shared_exit:
            raise UserError(f"{checkpoint}, exit {exit!r}: {model.space_problem}")
        where = find_device(device)
        return Embedder(model.to(where), key, exit, image, where)

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """Embed (N, H, W, 3) uint8: (N, D) float32 on the CPU. Later exits are not computed.

        Raises:
            UserError: the images do not fit in memory.
        """
        return embed_pixels(self.model, pixels, [self.exit])[self.exit]

    @property
    def shared(self) -> bool:
        """Whether queries of every exit can search a gallery of this exit.

        Raises:
            UserError: the network's galleries are of another exit.
        """
        shared = self.model.shared_exit
        if shared not in (None, self.exit):
            why = (
                f"{self.exit}: the network was trained with a shared space, in which queries of "
                f"every exit are compared with embeddings of {shared!r}: leave"
            )
            raise with_options(
                UserError(f"exit {why} exit out of the gallery, and give it to search_gallery"),
                f"--exit {why} --exit out of the gallery, and give it to gallery search",
            )
        return shared is not None

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
        images: the files to read.
        batch_size: images per batch.
        full: pad every batch to `batch_size`. The last bits of an embedding depend on the batch
            size; with padding they depend neither on the other images nor on where an interrupted
            command stopped.
    """
    for batch in decoded_batches(images, embedder.image, batch_size):
        embeddings = torch.empty(0, embedder.dim)
        if batch.images:
            fill = batch_size - len(batch.images) if full else 0
            pixels = np.pad(batch.pixels, ((0, fill), *[(0, 0)] * 3))
            embeddings = embedder(pixels)[: len(batch.images)]
        yield EmbeddedBatch(batch.images, embeddings, batch.broken)


def embed(
    model: ReidModule | Path | str,
    images: ImagesInput,
    boxes: Any = None,
    *,
    exits: Sequence[str] | str | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    device: str = "auto",
) -> dict[str, Tensor]:
    """Embed images, or the boxes of a frame, at the exits of a trained network.

    Images are resized and normalised as in the network's training.

    Args:
        model: checkpoint of a run, or a network (`load_model`), which avoids loading it at each
            call and is left in eval mode on `device`.
        images: a folder, whose images are embedded in the sorted order of their paths, subfolders
            included; an image file; paths; pixels (N, H, W, 3) uint8 RGB, or a list of pixels
            (h, w, 3). With `boxes`: a frame (H, W, 3) uint8 RGB, or an image file.
        boxes: (N, 4) xyxy in pixels: an array, lists, a tensor, or an object with them in `xyxy`,
            such as `supervision.Detections`. They are rounded, and clipped to the frame.
        exits: names of exits; later ones are not computed. None: all.
        size: (height, width) that images are resized to; None takes the checkpoint's. A network
            that was not loaded from a checkpoint needs `size`, or pixels.
        batch_size: images at a time. None: 64, or all crops of a frame.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.

    Returns:
        Exit -> (N, D) float32 on the CPU, cheapest exit first.

    Raises:
        UserError: not a checkpoint, an unknown exit, no such device, no `size`, a box without a
            pixel in the frame, or images that do not fit in memory.
        DatasetError: an image that cannot be read.
    """
    batches = source_batches(images, boxes, batch_size)
    checkpoint = None if isinstance(model, ReidModule) else model
    if not isinstance(model, ReidModule):
        if not isinstance(model, (str, PathLike)):
            how = "give the path of a checkpoint, or a network, as of load_model(checkpoint)"
            raise UserError(f"model is {described(model)}: {how}")
        model, _, _ = open_model(model)
    names = select_exits(exits, model.exit_names)
    if model.space_problem and checkpoint is not None and {*names} - {model.shared_exit}:
        warnings.warn(f"{checkpoint}: {model.space_problem}", SpaceWarning, stacklevel=2)
    if size is not None:
        check_size(size)
    size = size or model.image
    if size is None and not (isinstance(images, np.ndarray) and boxes is None):
        raise UserError("a network does not know its image size: give size=(height, width)")
    model = model.eval().to(find_device(device))
    parts = [embed_pixels(model, pixels, names) for pixels in _pixels(batches, size)]
    if not parts and size is not None:  # a frame without boxes: D is that of a blank image
        blank = embed_pixels(model, np.zeros((1, *size, 3), np.uint8), names)
        return {name: rows[:0] for name, rows in blank.items()}
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def check_size(size: Any) -> None:
    """Check a size (height, width) of images.

    Raises:
        UserError: it is none.
    """
    if not isinstance(size, Sequence) or len(size) != 2:
        raise UserError(f"size={size!r}: give (height, width), such as (256, 128)")
    check_whole("size (height)", size[0])
    check_whole("size (width)", size[1])


def _pixels(batches: Sequence[Sources], size: tuple[int, int] | None) -> Iterator[np.ndarray]:
    """Batches of files or pixels -> (n, H, W, 3) uint8, resized to `size` unless it is None."""
    if not batches or isinstance(batches[0][0], Path):
        files = [[Labelled(path) for path in batch] for batch in batches]  # type: ignore[arg-type]
        for _, decoded in _decoded(files, size or (1, 1)):
            for text in decoded:
                if isinstance(text, str):
                    raise DatasetError(text)
            yield np.stack(decoded)
        return
    for batch in batches:
        arrays = [np.ascontiguousarray(pixels) for pixels in batch]
        yield np.stack([resize(pixels, *size) for pixels in arrays] if size else arrays)


@torch.inference_mode()
def embed_pixels(model: ReidModule, pixels: np.ndarray, exits: Sequence[str]) -> dict[str, Tensor]:
    """Embed (N, H, W, 3) uint8 at `exits`: name -> (N, D) float32 on the CPU.

    Exits after the last of them are not computed.

    Raises:
        UserError: the images do not fit in memory.
    """
    found = {}
    try:
        for name, rows in model.exits(model.prepared(torch.from_numpy(pixels).to(model.device))):
            if name in exits:
                found[name] = rows.float().cpu()
            if len(found) == len(exits):
                break
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
            raise UserError(
                f"{len(pixels)} images at a time do not fit in memory: give a smaller batch size"
            ) from error
        raise
    return found


@dataclass(frozen=True)
class DecodedBatch:
    """`images` with their `pixels`; `broken`: messages of those that cannot be read."""

    images: list[Labelled]
    pixels: np.ndarray  # (n, height, width, 3) uint8
    broken: list[str]

    def __len__(self) -> int:
        return len(self.images) + len(self.broken)


def decoded_batches(
    images: Sequence[Labelled], size: tuple[int, int], batch_size: int
) -> Iterator[DecodedBatch]:
    """Decode `images` a batch at a time; those that cannot be read are left out.

    The next batch is decoded by threads while one is in use.
    """
    batches = [images[i : i + batch_size] for i in range(0, len(images), batch_size)]
    for batch, decoded in _decoded(batches, size):
        good = [i for i, pixels in enumerate(decoded) if isinstance(pixels, np.ndarray)]
        pixels = np.stack([decoded[i] for i in good]) if good else np.empty((0, *size, 3), np.uint8)
        broken = [text for text in decoded if isinstance(text, str)]
        yield DecodedBatch([batch[i] for i in good], pixels, broken)


def _decoded(
    batches: Sequence[Sequence[Labelled]], size: tuple[int, int]
) -> Iterator[tuple[Sequence[Labelled], list[np.ndarray | str]]]:
    """Yield each batch with pixels (*size, 3) or an error message for each image."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    start = partial(_start, pool, size)
    try:
        ahead = start(batches[0]) if batches else []
        for number, batch in enumerate(batches, 1):
            now = [image for future in ahead for image in future.result()]
            if number < len(batches):
                ahead = start(batches[number])
            yield batch, now
    finally:
        pool.shutdown(cancel_futures=True)


def _start(
    pool: ThreadPoolExecutor, size: tuple[int, int], batch: Sequence[Labelled]
) -> list[Future[list[np.ndarray | str]]]:
    """Start to read a batch: one task per file, for all of its boxes."""
    files = [list(images) for _, images in groupby(batch, key=lambda image: image.path)]
    return [pool.submit(_read, images, size) for images in files]


def _read(images: Sequence[Labelled], size: tuple[int, int]) -> list[np.ndarray | str]:
    """The images of one file as (*size, 3) uint8, or an error message for each."""
    path = images[0].path
    try:
        pixels = decode(path)
    except DatasetError as error:
        return [str(error)] * len(images)
    problems = [box_problem(path, image.box, *pixels.shape[:2]) for image in images]
    return [
        problem or resize(crop(pixels, image.box), *size)
        for image, problem in zip(images, problems, strict=True)
    ]
