"""Thresholds of pairs from the matches that users of the service confirmed and rejected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.csv_file import read_table
from reid_lab.dataset.readers.own import raise_problems
from reid_lab.errors import UserError
from reid_lab.gallery.image_lists import read_images
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.card import IndexMetric
from reid_lab.openset.rates import check_rates
from reid_lab.openset.thresholds import AcceptThreshold, AcceptThresholds
from reid_lab.retrieval.accept_thresholds import RATES, distances_at
from reid_lab.vectors.rows import distances

SOURCE = "labels of users"
FEWEST_REJECTED = 5  # matches that thresholds are fitted on
CORRECT = "correct"  # 1: the image shows the person; 0: it does not
FIX = "Give the labels.csv that reid-lab export-people writes"


def read_labels(file: Path) -> list[Labelled]:
    """The images of `labels.csv`: `person` is whom a user was asked about, `correct` a value.

    Raises:
        UserError: not such a file, or no labels in it.
    """
    table = read_table(file, ("path", "pid", CORRECT), (), FIX)
    answers = table.column(CORRECT)
    wrong = [
        f"line {line}: {text}"
        for line, text in zip(table.lines, answers, strict=True)
        if text not in ("0", "1")
    ]
    raise_problems(file, wrong, f"Expected {CORRECT} to be 1 (confirmed) or 0 (rejected). {FIX}")
    images, _ = read_images(file)
    return [
        image._replace(values={CORRECT: text}) for image, text in zip(images, answers, strict=True)
    ]


def check_labels(
    gallery: SavedGallery, images: Sequence[Labelled], rates: Sequence[float] | None
) -> None:
    """Check, before the images are embedded, what `fit_labels` needs.

    Raises:
        UserError: too few labels of people of the gallery, or a rate that they cannot show.
    """
    known = np.isin(np.array([image.pid for image in images]), gallery.pids.numpy())
    right = _confirmed(images)
    _check_counts(gallery, int((known & right).sum()), int((known & ~right).sum()), rates)


def fit_labels(
    gallery: SavedGallery,
    images: Sequence[Labelled],
    embeddings: np.ndarray,
    rates: Sequence[float] | None = None,
) -> AcceptThresholds:
    """Thresholds of pairs of an image and a person: genuine if confirmed, impostor if rejected.

    The distance of a pair is that to the person's nearest image in the gallery, as in the service.
    The labelled image itself does not count if it is in the gallery: the same file, or the very
    same embedding. Pairs with people of whom the gallery has nothing else are left out.

    Args:
        gallery: gallery that is searched.
        images: the labelled images, see `read_labels`.
        embeddings: (n, D) of these images at the gallery's exit.
        rates: false-accept rates, each in (0, 1]; None takes those of `RATES` that the pairs can
            show.

    Raises:
        UserError: too few pairs, or a rate that they cannot show.
    """
    near, right = _distances(gallery, images, embeddings), _confirmed(images)
    there = np.isfinite(near)
    genuine, impostor = near[there & right], near[there & ~right]
    _check_counts(gallery, len(genuine), len(impostor), rates)
    thresholds = tuple(
        AcceptThreshold(rate, t, float((genuine < t).mean()))
        for rate, t in distances_at(impostor, rates or RATES).items()
    )
    people = len({image.pid for image, counted in zip(images, there, strict=True) if counted})
    return AcceptThresholds("pairs", SOURCE, people, len(impostor), len(gallery), thresholds)


def _confirmed(images: Sequence[Labelled]) -> np.ndarray:
    return np.array([image.values[CORRECT] == "1" for image in images], bool)


def _check_counts(
    gallery: SavedGallery, genuine: int, impostor: int, rates: Sequence[float] | None
) -> None:
    if impostor < FEWEST_REJECTED or not genuine:
        raise UserError(
            f"the labels have {genuine} confirmed and {impostor} rejected matches with people of "
            f"{gallery.folder}; at least 1 confirmed and {FEWEST_REJECTED} rejected ones are "
            "required: label more matches, or leave the labels out"
        )
    check_rates(rates, impostor, "rejected matches", "label more matches")


def _distances(
    gallery: SavedGallery, images: Sequence[Labelled], embeddings: np.ndarray
) -> np.ndarray:
    """(n,) distances of images to their person's nearest other one; infinite without one."""
    metric: IndexMetric = gallery.card.metric
    pids, paths = gallery.pids.numpy(), np.array(gallery.paths(), dtype=object)
    found = np.full(len(images), np.inf)
    for number, (image, row) in enumerate(zip(images, embeddings, strict=True)):
        mine = np.flatnonzero(pids == image.pid)
        rows = np.array(gallery.checked[mine])
        same = (paths[mine] == str(image.path)) | (rows == row.astype(rows.dtype)).all(1)
        if not same.all():
            found[number] = distances(row[None], rows[~same], metric).min()
    return found
