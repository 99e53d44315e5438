"""A new model for a gallery without downtime (`reid-lab gallery upgrade`).

The new checkpoint embeds the images into a folder inside the gallery's, row by row; a killed
upgrade resumes there. Searches use the old embeddings until all new ones exist; then the gallery's
card is replaced atomically. No images can be added meanwhile.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from reid_lab.errors import UserError, with_options
from reid_lab.files.atomic import replacing
from reid_lab.files.regular import escaped
from reid_lab.gallery.accept_thresholds import camera_ids
from reid_lab.gallery.build import Progress, opened, silent
from reid_lab.gallery.embedder import Embedder, embedded
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.index import check_installed
from reid_lab.gallery.network import warn_of_space
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.writer import Writer
from reid_lab.gallery_format.card import (
    COLUMNS,
    EMBEDDINGS,
    IDS,
    NAMES,
    PATHS,
    PEOPLE,
    Card,
    GalleryError,
)
from reid_lab.gallery_format.rows import GalleryRows
from reid_lab.gallery_format.writer import STAGING, RowWriter, locked
from reid_lab.images.files import find_images
from reid_lab.openset.thresholds import accept_thresholds_at
from reid_lab.output import arguments
from reid_lab.output.arguments import check_whole
from reid_lab.protocol import DISTRACTOR
from reid_lab.retrieval.accept_thresholds import HIDDEN
from reid_lab.retrieval.ranking import rank

LISTED = 5


@dataclass(frozen=True)
class ModelComparison:
    """Accuracies of the old and the new embeddings on the same `queries` of the gallery."""

    queries: int
    rank1: tuple[float, float]
    mean_ap: tuple[float, float]


@dataclass(frozen=True)
class UpgradeResult:
    """What an upgrade did.

    Attributes:
        gallery: the gallery as it is now.
        images: number of images that the new model embedded.
        comparison: accuracies of both models; None if no person is known in two images.
        swapped: whether the gallery has the new embeddings.
    """

    gallery: SavedGallery
    images: int
    comparison: ModelComparison | None
    swapped: bool


def upgrade_gallery(
    gallery: SavedGallery | Path | str,
    checkpoint: Path | str,
    *,
    exit: str | None = None,
    images: Path | str | None = None,
    max_queries: int = 1000,
    dry_run: bool = False,
    only_if_better: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress = silent,
) -> UpgradeResult:
    """Embed all images again by a new model, compare both, and swap the embeddings.

    Searches use the old embeddings until then. A killed upgrade resumes. The new gallery has the
    thresholds of the checkpoint, if it has any: calibrate again.

    Args:
        gallery: gallery, or its folder.
        checkpoint: checkpoint of the new model.
        exit: exit to embed at; None takes the last one.
        images: folder of the images, if they were moved; see `located`.
        max_queries: maximum number of images that are queries of the comparison.
        dry_run: embed and compare, do not swap; the embeddings are kept for the next call.
        only_if_better: do not swap if the new mAP is lower.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.
        progress: called with the numbers of images that are done, and of all.

    Warns:
        SpaceWarning: early exits of the network do not fit its shared space.

    Raises:
        UserError: not a checkpoint, an unknown exit, images that are missing or cannot be read, no
            faiss for the index, or no such device.
        GalleryError: the gallery is of this model and exit already, or another process writes.
    """
    check_whole("max_queries", max_queries)
    check_whole("batch_size", batch_size)
    gallery = opened(gallery)
    check_installed(gallery.card.index)
    with locked(gallery.folder):
        embedder = Embedder.load(arguments.path("checkpoint", checkpoint), exit, device)
        warn_of_space(embedder, checkpoint)
        writer = Writer(gallery)
        gallery = writer.gallery
        _drop_swapped(gallery)
        card = _new_card(gallery.card, embedder)
        files = located(gallery.paths(), arguments.path_or_none("images", images))
        staged = _fill(gallery, card, embedder, files, batch_size, progress)
        found = compare(gallery, staged, max_queries)
        worse = found is not None and found.mean_ap[1] < found.mean_ap[0]
        if dry_run or (worse and only_if_better):
            return UpgradeResult(gallery, len(files), found, False)
        swap(writer, staged)
        writer.update_index()
    return UpgradeResult(SavedGallery.open(gallery.folder), len(files), found, True)


def located(paths: Sequence[str], folder: Path | None) -> list[Path]:
    """Locate the files of a gallery's images: at the stored paths, or in a folder.

    Args:
        paths: stored paths.
        folder: folder that has the images at any depth: of the files with an image's name, the one
            whose parent folders agree the most is taken. None takes the stored paths.

    Raises:
        UserError: files are missing, or two fit an image equally well; the first are named.
    """
    if folder is None:
        found: list[Path | None] = [Path(p) if Path(p).is_file() else None for p in paths]
    else:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path in find_images(folder)[0]:
            by_name[path.name].append(path)
        found = [_best(Path(path), by_name[Path(path).name]) for path in paths]
    missing = [path for path, file in zip(paths, found, strict=True) if file is None]
    if missing:
        listed = "".join(f"\n  {escaped(path)}" for path in missing[:LISTED])
        text = (
            f"{len(missing):,} of {len(paths):,} images cannot be found"
            f"{f' in {escaped(folder)}, or match several files' if folder else ''}: give "
        )
        fix = f" with the folder that they are in now, or remove them:{listed}"
        raise with_options(UserError(f"{text}images{fix}"), f"{text}--images{fix}")
    return [file for file in found if file is not None]


def compare(
    old: SavedGallery, new: GalleryRows, most: int, seed: int = 0
) -> ModelComparison | None:
    """Rank both galleries for the same queries: images with a match in another camera.

    Where cameras are unknown, each image is hidden from itself only.

    Args:
        old, new: galleries of the same images.
        most: maximum number of queries, drawn at random.

    Returns:
        None if no image has a match.
    """
    ids = camera_ids(old)
    rows = np.flatnonzero(ids.pids.numpy() > DISTRACTOR)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    if not len(rows):
        return None
    query = ids.take(torch.from_numpy(rows))
    results = []
    for gallery in (old, new):
        every = np.array(gallery.checked, np.float32)
        results.append(rank(every[rows], every, query, ids, gallery.card.metric, HIDDEN))
    answerable = int(results[0].answerable.sum())
    if not answerable:
        return None
    (a, b) = results
    return ModelComparison(answerable, (a.rank1, b.rank1), (a.mAP, b.mAP))


def swap(writer: RowWriter[SavedGallery], staged: GalleryRows) -> None:
    """Give a gallery the staged rows, as its next generation."""
    old, new = writer.gallery.card, staged.card
    card = replace(new, generation=old.generation + 1, index=old.index)
    for name in (EMBEDDINGS, IDS, PATHS, COLUMNS, NAMES, PEOPLE):
        source = staged.folder / new.file(name)
        if source.is_file():
            with replacing(writer.folder / card.file(name)) as beside:
                shutil.copyfile(source, beside)
    writer.replace_rows(card, dict(staged.names))


def _new_card(old: Card, embedder: Embedder) -> Card:
    if (embedder.fingerprint, embedder.exit) == (old.fingerprint, old.exit):
        raise GalleryError(
            f"the gallery's embeddings are of this model ({old.fingerprint[:12]}) and exit "
            f"{old.exit!r} already"
        )
    return Card(
        embedder.fingerprint,
        embedder.dim,
        embedder.exit,
        embedder.image,
        old.metric,
        old.dtype,
        "flat",
        old.pattern,
        accept_thresholds=accept_thresholds_at(
            embedder.model.accept_thresholds, embedder.exit, old.metric
        ),
        shared=embedder.shared,
    )


def _fill(
    gallery: SavedGallery,
    card: Card,
    embedder: Embedder,
    images: Sequence[Path],
    batch_size: int,
    progress: Progress,
) -> GalleryRows:
    """Embed the images that the staging folder lacks; return all rows in the gallery's order.

    Raises:
        UserError: an image cannot be read; finished embeddings are kept.
    """
    writer = RowWriter(_staging(gallery, card))
    start = len(writer.gallery)
    progress(start, len(images))
    todo = [Labelled(path) for path in images[start:]]
    for batch in embedded(embedder, todo, batch_size, full=True):
        if batch.broken:
            raise UserError(
                f"{batch.broken[0]}: restore the file or remove it from the gallery (reid-lab "
                "gallery remove --file), then start again: the upgrade resumes"
            )
        rows = range(start, start + len(batch))
        _append(writer, gallery, rows, batch.embeddings.numpy())
        start += len(batch)
        progress(start, len(images))
    return writer.gallery


def _append(
    writer: RowWriter[SavedGallery], gallery: SavedGallery, rows: range, embeddings: np.ndarray
) -> None:
    """Stage the new embeddings of some rows, with their labels."""
    numbers = gallery.numbers[rows.start : rows.stop]
    values = [gallery.values(row) for row in rows]
    columns = {c: [value.get(c, "") for value in values] for c in gallery.card.columns}
    paths = [gallery.path(row) for row in rows]
    writer.append_rows(embeddings, numbers["pid"], numbers["camid"], paths, gallery.names, columns)


def _staging(gallery: SavedGallery, card: Card) -> SavedGallery:
    """The folder of new embeddings: from a killed upgrade of the same rows, or an empty one."""
    folder = gallery.folder / STAGING
    try:
        staged = SavedGallery.open(folder)
        kept = replace(card, count=0, crc32={})
        same = replace(staged.card, count=0, crc32={}, columns=(), columns_bytes=0) == kept
        if same and staged.paths() == gallery.paths()[: len(staged)]:
            _ = staged.checked
            return staged
    except GalleryError:  # none, or a damaged one
        pass
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    card.write(folder)
    return SavedGallery.open(folder)


def _drop_swapped(gallery: SavedGallery) -> None:
    """Delete the staged rows of an upgrade that was killed after its swap."""
    folder = gallery.folder / STAGING
    try:
        card = Card.read(folder)
    except GalleryError:
        return
    if (card.fingerprint, card.exit) == (gallery.card.fingerprint, gallery.card.exit):
        shutil.rmtree(folder, ignore_errors=True)


def _best(path: Path, files: Sequence[Path]) -> Path | None:
    """The file whose parent folders agree most with those of `path`; None if two do equally."""
    common = [_agreeing(path, file) for file in files]
    if not common or common.count(max(common)) > 1:
        return None
    return files[common.index(max(common))]


def _agreeing(a: Path, b: Path) -> int:
    """Number of equal trailing parts of two paths."""
    parts = list(zip(reversed(a.parts), reversed(b.parts), strict=False))
    return next((i for i, (x, y) in enumerate(parts) if x != y), len(parts))
