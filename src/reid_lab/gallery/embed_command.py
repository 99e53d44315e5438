"""`reid-lab embed`: write the embeddings of images, boxes or tracklets to a file."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from rich.text import Text

from reid_lab.checkpoint import open_model
from reid_lab.cost.machine import find_device
from reid_lab.dataset.readers.own import INTEGER, normalise_label
from reid_lab.errors import SpaceWarning, UserError
from reid_lab.gallery import show
from reid_lab.gallery.embedder import decoded_batches, embed_pixels
from reid_lab.gallery.image_lists import read_images
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.queries import group_tracklets
from reid_lab.gallery_format.embedding_files import EmbeddedImages, check_format, write_embeddings
from reid_lab.gallery_format.rows import UNKNOWN
from reid_lab.model import ReidModule
from reid_lab.output.console import progress, stderr, stdout
from reid_lab.runtime.inputs import select_exits
from reid_lab.vectors.pooling import pool


@dataclass
class ImageRows:
    """The readable images with their rows (n, D) at each exit, and messages of the others."""

    images: list[Labelled] = field(default_factory=list)
    exits: dict[str, torch.Tensor] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def run(args: Namespace) -> int:
    """Embed images; return 1 if --strict and an image is broken."""
    if args.metric and not args.pool:
        raise UserError("--metric says how tracklets are pooled: give --pool tracklet, too")
    check_format(args.out)
    images, note = read_images(args.images, args.boxes, args.pattern)
    if args.pool and not any(image.tracklet for image in images):
        raise UserError(
            f"--pool tracklet needs tracklets, and {args.images} has none: give a CSV file with "
            "columns path and tracklet"
        )
    model, size, fingerprint = open_model(args.checkpoint)
    names = select_exits(args.exit, model.exit_names, str(args.checkpoint))
    if model.space_problem and {*names} - {model.shared_exit}:
        warnings.warn(f"{args.checkpoint}: {model.space_problem}", SpaceWarning, stacklevel=2)
    rows = _embed(model.to(find_device(args.device)), images, size, names, args.batch_size)
    show.broken(list(dict.fromkeys(rows.broken)))
    if note:
        stderr.print(note, highlight=False, markup=False, soft_wrap=True)
    if not rows.images:
        raise UserError(f"none of {len(images):,} images could be read: {args.out} is not written")
    count = len(rows.images)
    metric = (args.metric or "euclidean") if args.pool else ""
    if metric:
        rows = _pooled(rows, metric)
    write_embeddings(args.out, _described(rows, fingerprint, metric))
    pooled = f" in {len(rows.images):,} tracklets" if args.pool else ""
    lost = f", {len(rows.broken):,} left out" if rows.broken else ""
    what = "image" if count == 1 else "images"
    found = f"{count:,} {what}{pooled}{lost}; exits {', '.join(names)}"
    stdout.print(Text(f"{args.out}: {found}"), soft_wrap=True)
    return int(bool(rows.broken) and args.strict)


def _embed(
    model: ReidModule,
    images: Sequence[Labelled],
    size: tuple[int, int],
    names: Sequence[str],
    batch_size: int,
) -> ImageRows:
    """Embed `images` batch by batch; only their embeddings are kept."""
    found, done = ImageRows(), 0
    with progress() as bar:
        task = bar.add_task("embed", total=len(images))
        for batch in decoded_batches(images, size, batch_size):
            found.broken += batch.broken
            if batch.images:
                found.images += batch.images
                for name, rows in embed_pixels(model, batch.pixels, names).items():
                    if name not in found.exits:
                        found.exits[name] = allocate(len(images), rows.shape[1])
                    found.exits[name][done : done + len(rows)] = rows
                done += len(batch.images)
            bar.advance(task, len(batch))
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
            "memory: choose fewer exits (--exit), or embed the images in parts"
        ) from error


def _pooled(rows: ImageRows, metric: str) -> ImageRows:
    """The mean of each tracklet of a person in a camera, named by its first image."""
    group, first = group_tracklets(rows.images)
    images = [rows.images[index]._replace(box=None) for index in first]
    exits = {
        name: torch.from_numpy(pool(x.numpy(), group, len(first), metric))
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
