"""Embed image files with an exported network to a file, and search a gallery with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError, first
from reid_lab.gallery_format.embedding_files import (
    EmbeddedFile,
    EmbeddedImages,
    check_format,
    write_embeddings,
)
from reid_lab.openset.thresholds import thresholds_of_kind
from reid_lab.openset.verdicts import GalleryVerdict
from reid_lab.output import arguments
from reid_lab.runtime.gallery import Gallery
from reid_lab.runtime.images import PixelBatch, batches, expanded
from reid_lab.runtime.model import Model

LISTED = 10  # images that an error names


@dataclass(frozen=True)
class FileMatch:
    """An image of a gallery that a file matches.

    Attributes:
        distance: distance of the embeddings, by the gallery's metric.
        row: number of the image in the gallery.
        person: name of its person; empty if unknown.
        camera: name of its camera; empty if unknown.
        path: its file.
    """

    distance: float
    row: int
    person: str
    camera: str
    path: str


@dataclass(frozen=True)
class FileResult:
    """What a gallery has for a file.

    Attributes:
        path: the file.
        matches: nearest first.
        verdict: known, unknown or ambiguous; None without a false-accept rate.
    """

    path: Path
    matches: list[FileMatch]
    verdict: GalleryVerdict | None = None


@dataclass(frozen=True)
class SearchedFiles:
    """A batch of files that were searched.

    Attributes:
        results: one per file that was read.
        broken: a message for each file that could not be read and was left out.
    """

    results: list[FileResult]
    broken: list[str]


def embed_to_file(
    model: Model | Path | str,
    images: Sequence[Path | str] | Path | str,
    out: Path | str,
    *,
    batch_size: int = 32,
) -> EmbeddedFile:
    """Embed images at every exit, and write a file as a whole.

    Args:
        model: exported network, or its folder.
        images: image files, or folders with subfolders.
        out: file to write, .npz or .parquet.
        batch_size: images at a time.

    Raises:
        UserError: no images, none that can be read, or `out` cannot be written.
        ExportError: not an export.
    """
    out = arguments.path("out", out)
    arguments.check_whole("batch_size", batch_size)
    check_format(out)
    model = _opened(model)
    paths, notes = expanded(arguments.paths("images", images))
    model.open_whole()
    read: list[str] = []
    parts, broken = [], dict[str, None]()
    for batch in batches(paths, model.image, batch_size):
        broken |= dict.fromkeys(batch.broken)
        if batch.paths:
            read += map(str, batch.paths)
            parts.append(model.embed(batch.pixels))
    if not parts:
        reasons = "".join(f"\n  {line}" for line in first([*broken], LISTED))
        raise UserError(f"none of the images can be read: {out} is not written{reasons}")
    exits = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    write_embeddings(out, EmbeddedImages(model.manifest.fingerprint, exits, np.array(read)))
    count = len(read)
    return EmbeddedFile(out, tuple(exits), count, count, broken=[*broken], note="\n".join(notes))


def search_files(
    model: Model | Path | str,
    images: Sequence[Path | str] | Path | str,
    gallery: Gallery | Path | str,
    *,
    exit: str | None = None,
    top: int = 10,
    where: str = "",
    false_accept_rate: float | None = None,
    batch_size: int = 32,
) -> Iterator[SearchedFiles]:
    """Search a gallery for the people of image files, batch by batch.

    Args:
        model: exported network, or its folder.
        images: image files, or folders with subfolders.
        gallery: gallery of this network, or its folder.
        exit: exit of the queries; another one than the gallery's needs a network trained with
            `model.shared_space=true`. None takes the gallery's.
        top: matches for each file.
        where: search only images that match this filter, as `site=north`.
        false_accept_rate: also judge whether each file is known, at this rate.
        batch_size: images at a time.

    Returns:
        One item per batch, when it was searched. Arguments are checked before.

    Raises:
        UserError: no images, an invalid filter, or no threshold for the rate.
        ExportError: not an export, a gallery of another one, or an unknown exit.
    """
    arguments.check_whole("top", top)
    arguments.check_whole("batch_size", batch_size)
    model = _opened(model)
    if not isinstance(gallery, Gallery):
        gallery = Gallery.open(gallery, model.manifest)
    gallery.selected(where)
    chosen = gallery.query_exit(exit, false_accept_rate is not None)
    model.manifest.exit(chosen)
    if false_accept_rate is not None:
        thresholds_of_kind(gallery.card.accept_thresholds, gallery.folder).at(false_accept_rate)
    paths, _ = expanded(arguments.paths("images", images))
    read = batches(paths, model.image, batch_size)
    return (_searched(model, gallery, b, chosen, top, where, false_accept_rate) for b in read)


def _opened(model: Model | Path | str) -> Model:
    return model if isinstance(model, Model) else Model(arguments.path("model", model))


def _searched(
    model: Model,
    gallery: Gallery,
    batch: PixelBatch,
    exit: str,
    top: int,
    where: str,
    rate: float | None,
) -> SearchedFiles:
    broken = list(dict.fromkeys(batch.broken))
    if not batch.paths:
        return SearchedFiles([], broken)
    rows = model.embed_until(batch.pixels, exit)
    distances, nearest = gallery.search(rows, top, where)
    judged: Sequence[GalleryVerdict | None] = [None] * len(rows)
    if rate is not None:
        judged = gallery.verdicts(rows, rate, where)
    found = zip(batch.paths, distances.tolist(), nearest.tolist(), judged, strict=True)
    return SearchedFiles([_result(gallery, *one) for one in found], broken)


def _result(
    gallery: Gallery,
    path: Path,
    distances: Sequence[float],
    rows: Sequence[int],
    verdict: GalleryVerdict | None,
) -> FileResult:
    matches = [_match(gallery, *pair) for pair in zip(distances, rows, strict=True)]
    return FileResult(path, matches, verdict)


def _match(gallery: Gallery, distance: float, row: int) -> FileMatch:
    person, camera = gallery.name(gallery.pids[row]), gallery.name(gallery.camids[row], "camid")
    return FileMatch(distance, row, person, camera, gallery.path(row))
