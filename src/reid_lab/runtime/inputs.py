"""Checks of the inputs of `embed`: images, a frame with boxes, exits. Also used with PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped, no_file
from reid_lab.images.boxes import frame_crops
from reid_lab.images.files import find_images
from reid_lab.images.pixels import read_pixels
from reid_lab.output.arguments import check_whole, described, texts

ImagesInput: TypeAlias = "Path | str | Sequence[Path | str] | np.ndarray | Sequence[np.ndarray]"
Sources: TypeAlias = "Sequence[Path] | Sequence[np.ndarray]"
BATCH = 64  # images at a time, unless they are crops of one frame


def source_batches(images: ImagesInput, boxes: Any, batch_size: int | None) -> list[Sources]:
    """Split images into batches: paths of files to decode, or pixels (h, w, 3) uint8.

    Args:
        images: a folder, an image file, paths of image files, pixels (N, H, W, 3) uint8 RGB, or
            a list of pixels (h, w, 3). With `boxes`: a frame (H, W, 3) uint8 RGB, or an image file.
        boxes: boxes of people in the frame, see `frame_boxes`.
        batch_size: images per batch. None: 64, or all crops of a frame.

    Returns:
        The batches; none for a frame without boxes.

    Raises:
        UserError: no images, files that do not exist, other pixels, or boxes that cannot be
            cropped.
    """
    if batch_size is not None:
        check_whole("batch_size", batch_size)
    if boxes is not None:
        sources: Sources = _crops(images, boxes)
        step = batch_size or max(len(sources), 1)
    else:
        sources, step = _images(images), batch_size or BATCH
        if not len(sources):
            raise UserError("there are no images to embed: give at least one")
    return [sources[start : start + step] for start in range(0, len(sources), step)]


def select_exits(
    exits: Sequence[str] | str | None, available: Sequence[str], owner: str = ""
) -> tuple[str, ...]:
    """Return the exits to compute, in the order of `available`.

    Args:
        exits: names, or one name; None selects all.
        available: the network's exits, cheapest first.
        owner: name of the network, for messages.

    Raises:
        UserError: no exit or an unknown one; the message lists the available ones.
    """
    if exits is None:
        return tuple(available)
    chosen = texts("exits", exits)
    listed = f"available: {', '.join(available)}"
    if not chosen:
        raise UserError(f"no exits to compute: give one or more, or None for all; {listed}")
    for name in chosen:
        if name not in available:
            raise UserError(f"unknown exit {name!r}{f' of {owner}' if owner else ''}; {listed}")
    return tuple(name for name in available if name in chosen)


def _crops(images: ImagesInput, boxes: Any) -> list[np.ndarray]:
    if isinstance(images, (str, Path)):
        path = Path(images)
        if path.is_dir():
            raise UserError(f"{escaped(path)} is a folder; boxes are of one frame: give its path")
        return frame_crops(read_pixels(path), boxes)
    if isinstance(images, np.ndarray):
        return frame_crops(images, boxes)
    raise UserError(
        f"boxes are of one frame, (H, W, 3) uint8 RGB or the path of an image; this is "
        f"{type(images).__name__}: embed one frame at a time"
    )


def _images(images: ImagesInput) -> Sources:
    if isinstance(images, np.ndarray):
        if (
            images.ndim != 4
            or images.shape[3] != 3
            or images.dtype != np.uint8
            or not all(images.shape[1:])
        ):
            frame = "; a frame (H, W, 3) needs its boxes=" if images.ndim == 3 else ""
            raise UserError(
                f"pixels must be (N, H, W, 3) uint8 RGB, these are {images.shape} {images.dtype}"
                f"{frame}"
            )
        return list(images)
    if isinstance(images, (str, Path)):
        path = Path(images)
        if path.is_file() and path.suffix.lower() == ".csv":
            raise UserError(
                f"{escaped(path)} is a CSV file, which only embed_to_file (reid-lab embed) reads: "
                "give a folder, an image or a list of paths"
            )
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise UserError(f"{escaped(path)} {no_file(path)}: give a folder or an image")
        return find_images(path)[0]
    if not isinstance(images, Iterable):
        raise _no_images("images", images)
    items: list[Any] = list(images)
    if items and all(isinstance(item, np.ndarray) for item in items):
        return _pixels(items)
    paths = []
    for number, item in enumerate(items):
        if not isinstance(item, (str, PathLike)):
            raise _no_images(f"images[{number}]", item)
        paths.append(Path(item))
    for path in paths:
        if not path.is_file():
            raise UserError(f"{escaped(path)} {no_file(path)}: correct the path")
    return paths


def _no_images(name: str, given: Any) -> UserError:
    return UserError(
        f"{name} is {described(given)}: give a folder, an image file, paths of image files, or "
        "pixels (N, H, W, 3) uint8 RGB"
    )


def _pixels(images: list[np.ndarray]) -> list[np.ndarray]:
    """Check a list of pixels, of any sizes."""
    for number, image in enumerate(images):
        shape = image.shape
        if len(shape) != 3 or shape[2] != 3 or 0 in shape or image.dtype != np.uint8:
            raise UserError(
                f"each image of a list must be (h, w, 3) uint8 RGB; number {number} is {shape} "
                f"{image.dtype}"
            )
    return images
