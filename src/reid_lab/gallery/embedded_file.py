"""Write the embeddings of images, boxes or tracklets to a file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from reid_lab.checkpoint import open_model
from reid_lab.cost.machine import find_device
from reid_lab.dataset.readers.own import INTEGER, normalise_label
from reid_lab.errors import SpaceWarning, UserError, first, with_options
from reid_lab.gallery.build import LISTED, Progress, silent
from reid_lab.gallery.embedder import decoded_batches, embed_pixels
from reid_lab.gallery.image_lists import read_images
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.queries import group_tracklets
from reid_lab.gallery_format.card import IndexMetric
from reid_lab.gallery_format.embedding_files import (
    EmbeddedFile,
    EmbeddedImages,
    check_format,
    write_embeddings,
)
from reid_lab.gallery_format.rows import UNKNOWN
from reid_lab.model import ReidModule
from reid_lab.output import arguments
from reid_lab.output.arguments import check_choice, check_whole
from reid_lab.runtime.inputs import select_exits
from reid_lab.vectors.pooling import pool as pooled_rows


@dataclass
class ImageRows:
    """The readable images with their rows (n, D) at each exit, and messages of the others."""

    images: list[Labelled] = field(default_factory=list)
    exits: dict[str, torch.Tensor] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def embed_to_file(
    images: Path | str,
    checkpoint: Path | str,
    out: Path | str,
    *,
    boxes: Path | str | None = None,
    pattern: str | None = None,
    exits: Sequence[str] | str | None = None,
    pool: bool = False,
    metric: IndexMetric | None = None,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress = silent,
) -> EmbeddedFile:
    """Embed images, and write a file as a whole. `reid_lab.embed` returns the embeddings instead.

    Args:
        images: folder, searched with its subfolders; CSV file with a column `path`, and optionally
            `pid`, `camid`, `tracklet`, and `box` or `left`, `top`, `right`, `bottom`; or an image.
        checkpoint: checkpoint of a run.
        out: file to write, .npz or .parquet.
        boxes: for one image: CSV file of the boxes in it.
        pattern: for a folder: how people and cameras are found in paths, as of `build_gallery`.
        exits: exits to embed at; None takes all.
        pool: write one row for each tracklet, the mean of its images.
        metric: metric that pooled tracklets are compared by: for cosine, images are scaled to
            length 1 before they are pooled; None is euclidean. Only with `pool`.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.
        progress: called with the numbers of images that are done, and of all.

    Warns:
        SpaceWarning: early exits of the network do not fit its shared space.

    Raises:
        UserError: no images, none that can be read, an invalid CSV file, no tracklets to pool, not
            a checkpoint, an unknown exit, too little memory, `out` cannot be written, or no such
            device.
    """
    images, checkpoint = arguments.path("images", images), arguments.path("checkpoint", checkpoint)
    out, boxes = arguments.path("out", out), arguments.path_or_none("boxes", boxes)
    check_whole("batch_size", batch_size)
    if metric is not None:
        check_choice("metric", metric, get_args(IndexMetric))
        if not pool:
            why = "metric says how tracklets are pooled: give"
            raise with_options(UserError(f"{why} pool=True, too"), f"--{why} --pool tracklet, too")
    check_format(out)
    listed, note = read_images(images, boxes, pattern)
    if pool and not any(image.tracklet for image in listed):
        why = f"needs tracklets, and {images} has none: give a CSV file with "
        why += "columns path and tracklet"
        raise with_options(UserError(f"pool=True {why}"), f"--pool tracklet {why}")
    model, size, fingerprint = open_model(checkpoint)
    names = select_exits(exits, model.exit_names, str(checkpoint))
    if model.space_problem and {*names} - {model.shared_exit}:
        warnings.warn(f"{checkpoint}: {model.space_problem}", SpaceWarning, stacklevel=2)
    rows = _embed(model.to(find_device(device)), listed, size, names, batch_size, progress)
    broken = list(dict.fromkeys(rows.broken))
    if not rows.images:
        reasons = "".join(f"\n  {line}" for line in first(broken, LISTED))
        raise UserError(
            f"none of {len(listed):,} images could be read: {out} is not written{reasons}"
        )
    count = len(rows.images)
    how = (metric or "euclidean") if pool else ""
    if how:
        rows = _pooled(rows, how)
    write_embeddings(out, _described(rows, fingerprint, how))
    return EmbeddedFile(out, names, count, len(rows.images), pool, broken, note)


def _embed(
    model: ReidModule,
    images: Sequence[Labelled],
    size: tuple[int, int],
    names: Sequence[str],
    batch_size: int,
    progress: Progress,
) -> ImageRows:
    """Embed `images` batch by batch; only their embeddings are kept."""
    found, done, seen = ImageRows(), 0, 0
    progress(0, len(images))
    for batch in decoded_batches(images, size, batch_size):
        found.broken += batch.broken
        if batch.images:
            found.images += batch.images
            for name, rows in embed_pixels(model, batch.pixels, names).items():
                if name not in found.exits:
                    found.exits[name] = allocate(len(images), rows.shape[1])
                found.exits[name][done : done + len(rows)] = rows
            done += len(batch.images)
        seen += len(batch)
        progress(seen, len(images))
    found.exits = {name: found.exits[name][:done] for name in names if done}
    return found


def allocate(count: int, dim: int) -> torch.Tensor:
    """Allocate all embeddings of an exit, (count, dim) float32.

    Raises:
        UserError: there is too little memory.
    """
    try:
        return torch.empty(count, dim)
    except RuntimeError as error:
        raise UserError(
            f"{count:,} embeddings of {dim} values ({4e-9 * count * dim:,.1f} GB) do not fit in "
            "memory: choose fewer exits, or embed the images in parts"
        ) from error


def _pooled(rows: ImageRows, metric: str) -> ImageRows:
    """The mean of each tracklet of a person in a camera, named by its first image."""
    group, first = group_tracklets(rows.images)
    images = [rows.images[index]._replace(box=None) for index in first]
    exits = {
        name: torch.from_numpy(pooled_rows(x.numpy(), group, len(first), metric))
        for name, x in rows.exits.items()
    }
    return replace(rows, images=images, exits=exits)


def _described(rows: ImageRows, fingerprint: str, pooled: str) -> EmbeddedImages:
    images = rows.images
    boxes = [image.box for image in images]
    return EmbeddedImages(
        fingerprint,
        {name: x.numpy() for name, x in rows.exits.items()},
        np.array([str(image.path) for image in images]),
        _labels([image.person for image in images]),
        _labels([image.camera for image in images]),
        _labels([image.tracklet for image in images]),
        np.array(boxes) if None not in boxes else None,
        pooled,
    )


def _labels(texts: Sequence[str]) -> np.ndarray | None:
    """int64 if all are whole numbers (`UNKNOWN` if empty), else text; None if all are empty."""
    texts = [normalise_label(text) for text in texts]
    known = [text for text in texts if text]
    if not known:
        return None
    if all(INTEGER.fullmatch(text) for text in known):
        return np.array([int(text) if text else UNKNOWN for text in texts], np.int64)
    return np.array(texts)
