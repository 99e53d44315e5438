"""Build a gallery from images, and add images to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from reid_lab.errors import UserError, first
from reid_lab.gallery.accept_thresholds import thresholds_of_test
from reid_lab.gallery.copies import find_copies
from reid_lab.gallery.embedder import Embedder, embedded
from reid_lab.gallery.images import Labelled, columns_of, ids_of, names_of
from reid_lab.gallery.index import check_count, check_installed
from reid_lab.gallery.metadata import read_gallery_images, read_more_images
from reid_lab.gallery.network import network_of, warn_of_space
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.writer import Writer, extend, reserved
from reid_lab.gallery_format.card import Card, IndexMetric, IndexName
from reid_lab.openset.thresholds import AcceptThresholds, accept_thresholds_at
from reid_lab.output import arguments
from reid_lab.output.arguments import check_choice, check_whole

LISTED = 10  # images that an error names
Progress = Callable[[int, int], None]  # number of images that are done, and of all


def silent(done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class BuildResult:
    """A gallery after images were embedded into it.

    Attributes:
        gallery: the gallery with its new images.
        embedded: number of new images.
        known: number of given images that it had before.
        broken: a message for each image that could not be read and was left out.
        copies: pairs of rows (new, earlier) with the same embedding to the last bit.
        note: what was skipped or assumed about the images; empty for nothing.
        seconds: time of the embedding.
    """

    gallery: SavedGallery
    embedded: int
    known: int = 0
    broken: list[str] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0


def build_gallery(
    images: Path | str,
    checkpoint: Path | str,
    out: Path | str,
    *,
    metadata: Path | str | None = None,
    pattern: str | None = None,
    exit: str | None = None,
    index: IndexName = "flat",
    metric: IndexMetric = "euclidean",
    half: bool = False,
    overwrite: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress = silent,
) -> BuildResult:
    """Embed a folder of images, and write a gallery: as a whole, or not at all.

    Args:
        images: folder, searched with its subfolders, or CSV file with a column `path`.
        checkpoint: checkpoint of a run.
        out: folder of the gallery.
        metadata: for a folder: CSV file with a column `path`, relative to it; `pid` and `camid`
            name people and cameras, any other column is kept.
        pattern: regular expression with groups `pid` and `camid`, searched in an image's path; ""
            leaves people unknown, None takes Market-1501's names, else a folder for each person.
        exit: exit to embed at; None takes the last one.
        index: index of the search; `flat` is exact, the others need faiss.
        metric: metric of the distances.
        half: store float16, half the bytes.
        overwrite: replace an existing gallery.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.
        progress: called with the numbers of images that are done, and of all.

    Warns:
        SpaceWarning: early exits of the network do not fit its shared space.

    Raises:
        UserError: no images, none that can be read, an invalid CSV file or pattern, not a
            checkpoint, an unknown exit, too few images for the index, no faiss, or no such device.
        GalleryError: `out` exists and may not be overwritten, or another process writes it.
    """
    check_choice("metric", metric, get_args(IndexMetric))
    check_choice("index", index, get_args(IndexName))
    check_whole("batch_size", batch_size)
    check_installed(index)
    images, checkpoint = arguments.path("images", images), arguments.path("checkpoint", checkpoint)
    metadata = arguments.path_or_none("metadata", metadata)
    out = arguments.path("out", out)
    listed, pattern, note = read_gallery_images(images, metadata, pattern)
    check_count(index, len(listed))
    with reserved(out, overwrite) as start:
        embedder = Embedder.load(checkpoint, exit, device)
        warn_of_space(embedder, checkpoint)
        card = Card(
            embedder.fingerprint,
            embedder.dim,
            embedder.exit,
            embedder.image,
            metric,
            "float16" if half else "float32",
            index,
            pattern,
            accept_thresholds=_thresholds_of(embedder, checkpoint, metric),
            shared=embedder.shared,
        )
        seconds, broken = _fill(start(card), embedder, listed, batch_size, progress)
        if len(broken) == len(listed):
            reasons = "".join(f"\n  {line}" for line in first(broken, LISTED))
            raise UserError(
                f"none of {len(listed)} images could be read: {out} was not made{reasons}"
            )
    gallery = SavedGallery.open(out)
    done = len(listed) - len(broken)
    return BuildResult(gallery, done, 0, broken, find_copies(gallery, 0), note, seconds)


def add_images(
    gallery: SavedGallery | Path | str,
    images: Path | str,
    checkpoint: Path | str,
    *,
    metadata: Path | str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress = silent,
) -> BuildResult:
    """Embed the new images of a folder. What was added stays, even after an error or a kill.

    Args:
        gallery: gallery, or its folder.
        images: folder or CSV file, as of `build_gallery`. Images that the gallery has, by their
            paths, are left out.
        checkpoint: checkpoint that the gallery was built from.
        metadata: CSV file for a folder, as of `build_gallery`.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.
        progress: called with the numbers of images that are done, and of all.

    Returns:
        The gallery with its new images; the given `gallery` does not see them.

    Raises:
        UserError: no images, an invalid CSV file, no faiss for the index, or no such device.
        GalleryError: another model, or another process writes.
    """
    check_whole("batch_size", batch_size)
    images, checkpoint = arguments.path("images", images), arguments.path("checkpoint", checkpoint)
    metadata = arguments.path_or_none("metadata", metadata)
    gallery = opened(gallery)
    check_installed(gallery.card.index)
    listed, note = read_more_images(images, metadata, gallery.card.pattern)
    # locked first: if another process is writing, the network need not be loaded
    with extend(gallery, gallery.card.fingerprint) as writer:
        embedder = network_of(writer.gallery, checkpoint, writer.gallery.card.exit, device)
        new = [image for image in listed if str(image.path) not in writer]
        before = len(writer.gallery)
        seconds, broken = _fill(writer, embedder, new, batch_size, progress)
        copies = find_copies(writer.gallery, before)
    found = SavedGallery.open(gallery.folder)
    known = len(listed) - len(new)
    return BuildResult(found, len(new) - len(broken), known, broken, copies, note, seconds)


def opened(gallery: SavedGallery | Path | str) -> SavedGallery:
    """The gallery of a folder."""
    return gallery if isinstance(gallery, SavedGallery) else SavedGallery.open(gallery)


def _thresholds_of(
    embedder: Embedder, checkpoint: Path, metric: IndexMetric
) -> tuple[AcceptThresholds, ...]:
    """The thresholds of a gallery to build: the checkpoint's, or those of its run's test."""
    found = accept_thresholds_at(embedder.model.accept_thresholds, embedder.exit, metric)
    if found:
        return found
    tested = thresholds_of_test(checkpoint, embedder.fingerprint, embedder.exit, metric)
    return (tested,) if tested else ()


def _fill(
    writer: Writer,
    embedder: Embedder,
    images: Sequence[Labelled],
    batch_size: int,
    progress: Progress,
) -> tuple[float, list[str]]:
    """Append the embeddings of `images` batch by batch: seconds, and messages of broken images."""
    start, done = time.perf_counter(), 0
    broken: list[str] = []
    progress(0, len(images))
    for batch in embedded(embedder, images, batch_size, full=True):
        if batch.images:
            labels = ids_of(batch.images), names_of(batch.images), columns_of(batch.images)
            writer.append(batch.embeddings, *labels)
        broken += batch.broken
        done += len(batch)
        progress(done, len(images))
    return time.perf_counter() - start, broken
