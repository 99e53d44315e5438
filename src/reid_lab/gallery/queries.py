"""The queries of a search: images, folders, boxes of a frame, tracklets, files of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from reid_lab.errors import UserError, with_options
from reid_lab.files.regular import escaped, no_file
from reid_lab.gallery.embedder import Embedder, embedded
from reid_lab.gallery.image_lists import read_images
from reid_lab.gallery.images import Labelled, label
from reid_lab.gallery_format.card import IndexMetric
from reid_lab.gallery_format.embedding_files import FORMATS, EmbeddedImages, read_embeddings
from reid_lab.gallery_format.rows import UNKNOWN
from reid_lab.images.files import find_images
from reid_lab.vectors.pooling import grouped, pool, spread


@dataclass(frozen=True)
class Spread:
    """A tracklet: number of `images`, and their mean distance to their mean embedding."""

    images: int
    distance: float


@dataclass
class Queries:
    """Queries and their embeddings (Q, D); `broken`: messages of files that cannot be read.

    `spreads` are given for tracklets.
    """

    images: list[Labelled] = field(default_factory=list)
    embeddings: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False)
    broken: list[str] = field(default_factory=list)
    spreads: list[Spread] | None = None


def is_embeddings(path: Path) -> bool:
    return path.suffix.lower() in FORMATS and not path.is_dir()


def list_queries(
    given: Sequence[Path], boxes: Path | None = None, pattern: str = ""
) -> tuple[list[Labelled], list[Path]]:
    """Expand the inputs of `search --image` and `link`.

    Args:
        given: images; folders, with their subfolders; CSV files, as `reid-lab embed` reads them;
            files of embeddings. Each folder that has images is one tracklet.
        boxes: a CSV file of the boxes in one image.
        pattern: finds people and cameras in paths of images and folders.

    Returns:
        The images, and the files of embeddings.

    Raises:
        UserError: a path that does not exist, an empty folder, or an invalid CSV file.
    """
    if not given:
        raise UserError("there are no queries: give at least one image, folder or file")
    if boxes is not None:
        if len(given) != 1:
            text = f"boxes are of one image, and {len(given)} were given"
            raise with_options(UserError(text), f"--{text}")
        return read_images(given[0], boxes)[0], []
    images: list[Labelled] = []
    files = []
    for path in given:
        if is_embeddings(path):
            files.append(path)
        elif path.is_dir():
            found = label(find_images(path)[0], pattern)
            root = path.absolute()
            images += [image._replace(tracklet=_folder(image.path, root)) for image in found]
        elif path.suffix.lower() == ".csv":
            images += read_images(path)[0]
        else:
            images += label([path.absolute()], pattern)
    return images, files


def _check_there(images: Sequence[Labelled]) -> None:
    """Check that the files of images exist, before the first is embedded.

    Raises:
        UserError: one does not; the first is named.
    """
    for path in {image.path: None for image in images}:
        if not path.is_file():
            raise UserError(f"{escaped(path)} {no_file(path)}: correct the path")


def _folder(path: Path, root: Path) -> str:
    """Name of an image's tracklet: its folder below `root`, or the name of `root`."""
    inside = path.parent.relative_to(root).as_posix()
    return root.name if inside == "." else inside


def embed_queries(
    images: Sequence[Labelled],
    files: Sequence[Path],
    embedder: Callable[[], Embedder],
    check: Callable[[EmbeddedImages, Path], np.ndarray],
    batch_size: int,
) -> Queries:
    """Embed images, and read files of embeddings.

    Args:
        images: see `list_queries`.
        files: files of embeddings, see `list_queries`.
        embedder: loads the network; not called without images.
        check: checks the fingerprint of a file and returns its rows (n, D) at the exit.
        batch_size: images at a time.

    Raises:
        UserError: a file that does not exist.
    """
    queries, parts = Queries(), []
    if images:
        network = embedder()
        _check_there(images)
        for batch in embedded(network, images, batch_size):
            queries.broken += batch.broken
            queries.images += batch.images
            parts.append(batch.embeddings.numpy())
    for file in files:
        read = read_embeddings(file)
        parts.append(check(read, file))
        queries.images += _labels(read)
        if not len(parts[-1]):
            raise UserError(f"{file} has no images: there is nothing to search for")
    queries.embeddings = np.concatenate(parts) if parts else queries.embeddings
    return queries


def pooled(queries: Queries, metric: IndexMetric, required: bool = True) -> Queries:
    """Pool each tracklet to one query: the mean of its embeddings, with its first image's path.

    Under cosine the embeddings are scaled to length 1 first. An image without a tracklet
    is a query by itself.

    Args:
        queries: queries to pool.
        metric: metric of the spreads.
        required: whether at least one image must have a tracklet.

    Raises:
        UserError: no image has a tracklet, but one is required.
    """
    if required and queries.images and not any(image.tracklet for image in queries.images):
        raise UserError(
            "there are no tracklets: give folders, one for each tracklet, or a file with a column "
            "tracklet"
        )
    which, first = group_tracklets(queries.images)
    means = pool(queries.embeddings, which, len(first), metric)
    spreads = []
    for number, mean in enumerate(means):
        mine = queries.embeddings[which == number]
        spreads.append(Spread(len(mine), spread(mine, mean, metric)))
    return replace(
        queries,
        images=[queries.images[index] for index in first],
        embeddings=means,
        spreads=spreads,
    )


def group_tracklets(images: Sequence[Labelled]) -> tuple[np.ndarray, np.ndarray]:
    """The tracklet of each image (N,), and the index of each tracklet's first image.

    The same name under another person or camera is another tracklet; an image without a tracklet is
    one by itself.
    """
    return grouped(
        [(i.pid, i.camid, i.tracklet or str((i.path, i.box)), not i.tracklet) for i in images]
    )


def rows_of(read: EmbeddedImages, file: Path, exit: str, metric: str) -> np.ndarray:
    """The rows (n, D) of an exit, to be compared by `metric`.

    Raises:
        UserError: the file lacks the exit; the message lists the available ones. Or its tracklets
            were pooled for another metric.
    """
    check_pooled(read.pooled, file, metric)
    if exit not in read.exits:
        text = (
            f"{escaped(file)} has no exit {exit!r}; available: {', '.join(read.exits)}: embed with"
        )
        raise with_options(UserError(f"{text} exits=[{exit!r}]"), f"{text} --exit {exit}")
    return read.exits[exit]


def check_pooled(pooled: str, file: Path, metric: str) -> None:
    """Check that a file's tracklets, if any, were pooled for the metric that compares them.

    Args:
        pooled: metric that they were pooled for; empty for images.
        file: the file, for the message.
        metric: metric that compares them.

    Raises:
        UserError: they were pooled for another one.
    """
    if pooled not in ("", metric):
        text = (
            f"{escaped(file)} has tracklets that were pooled for {pooled} distances, these are "
            f"{metric}: embed the images again with"
        )
        raise with_options(
            UserError(f"{text} pool=True, metric={metric!r}"),
            f"{text} --pool tracklet --metric {metric}",
        )


def _labels(read: EmbeddedImages) -> list[Labelled]:
    count = len(read)
    columns = [_texts(column, count) for column in (read.pids, read.camids, read.tracklets)]
    boxes = [None] * count if read.boxes is None else [tuple(box) for box in read.boxes.tolist()]
    paths = [Path(str(path)) for path in read.paths]
    return list(map(Labelled, paths, *columns, boxes))


def _texts(values: np.ndarray | None, count: int) -> list[str]:
    if values is None:
        return [""] * count
    unknown = "" if values.dtype.kind == "U" else UNKNOWN
    return ["" if value == unknown else str(value) for value in values.tolist()]
