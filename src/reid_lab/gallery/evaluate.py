"""Accuracies of labelled embeddings, all against all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from reid_lab.errors import UserError, with_options
from reid_lab.gallery.accept_thresholds import camera_ids
from reid_lab.gallery.build import opened
from reid_lab.gallery.queries import check_pooled
from reid_lab.gallery.store import UNKNOWN, SavedGallery
from reid_lab.gallery_format.card import IndexMetric
from reid_lab.gallery_format.embedding_files import FORMATS, read_embeddings
from reid_lab.gallery_format.rows import numbers_of, unknown_apart
from reid_lab.output import arguments
from reid_lab.output.arguments import check_choice, check_whole
from reid_lab.protocol import DISTRACTOR, Hidden
from reid_lab.retrieval.bootstrap import Resampler
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.ranking import rank

MOST_PEOPLE = 20_000  # people; their draws take 0.3 GB


@dataclass(frozen=True)
class LabelledEmbeddings:
    """N images: exit -> (N, D) rows; `ids`, with row numbers as paths.

    `pooled` is the metric that the rows of a file were pooled for; empty if they are images.
    """

    exits: Mapping[str, np.ndarray]
    ids: Ids
    pooled: str = ""

    @staticmethod
    def of_gallery(gallery: SavedGallery) -> LabelledEmbeddings:
        return _known({gallery.card.exit: gallery.checked}, camera_ids(gallery), gallery.folder)

    @staticmethod
    def of_file(path: Path) -> LabelledEmbeddings:
        """Raises:
        UserError: a malformed file, or one without pids.
        """
        read = read_embeddings(path)
        if read.pids is None:
            raise UserError(
                f"{path} does not say who the people are: embed a CSV file with a column pid, or "
                "images whose names or folders have it"
            )
        unknown = np.full(len(read), UNKNOWN)
        camids = unknown if read.camids is None else _numbers(read.camids)
        camids = unknown_apart(camids)
        pids = torch.from_numpy(_numbers(read.pids))
        images = _known(read.exits, Ids(pids, torch.from_numpy(camids), read.paths), path)
        return replace(images, pooled=read.pooled)


@dataclass(frozen=True)
class GalleryAccuracies:
    """Accuracies of labelled embeddings, all against all.

    Attributes:
        rows: one per exit: `exit`, `queries`, `skipped` queries without a match, `rank1` and other
            accuracies from 0 to 1, with `rank1_low`, `rank1_high`, `mAP_low`, `mAP_high`; see
            `evaluated`.
        images: number of images with a known person, or none for certain.
        people: number of people.
        hidden: gallery images that were hidden from a query.
    """

    rows: list[dict[str, Any]]
    images: int
    people: int
    hidden: Hidden


def evaluate_gallery(
    gallery: SavedGallery | Path | str,
    *,
    hidden: Hidden = "itself",
    max_queries: int | None = None,
    metric: IndexMetric | None = None,
) -> GalleryAccuracies:
    """Measure Rank-1 and mAP: each image is a query, all others are its gallery.

    Args:
        gallery: gallery with names of people, its folder, or a file of embeddings (`.npz`,
            `.parquet`), of which every exit is measured.
        hidden: gallery images that are hidden from a query, see `Protocol`.
        max_queries: maximum number of queries, drawn at random with a fixed seed; None takes all.
        metric: metric of the distances; None takes the gallery's, or the one that
            a file's tracklets were pooled for, or euclidean.

    Raises:
        UserError: no names of people, a malformed file, or a metric that is not the gallery's.
        NoMatchError: no query has a visible match.
    """
    check_choice("hidden", hidden, get_args(Hidden))
    if metric is not None:
        check_choice("metric", metric, get_args(IndexMetric))
    if max_queries is not None:
        check_whole("max_queries", max_queries)
    file = None if isinstance(gallery, SavedGallery) else arguments.path("gallery", gallery)
    if file is not None and file.suffix.lower() in FORMATS:
        images = LabelledEmbeddings.of_file(file)
        metric = metric or ("cosine" if images.pooled == "cosine" else "euclidean")
        check_pooled(images.pooled, file, metric)
    else:
        known = opened(gallery)
        if metric not in (None, known.card.metric):
            text = f"{known.folder} has the metric {known.card.metric}: leave"
            raise with_options(UserError(f"{text} metric out"), f"{text} --metric out")
        images, metric = LabelledEmbeddings.of_gallery(known), known.card.metric
    rows = evaluated(images, metric, hidden, max_queries)
    people = images.ids.pids[images.ids.pids > DISTRACTOR].unique().numel()
    return GalleryAccuracies(rows, len(images.ids), people, hidden)


def evaluated(
    images: LabelledEmbeddings,
    metric: IndexMetric,
    hidden: Hidden = "itself",
    most: int | None = None,
) -> list[dict[str, Any]]:
    """One row per exit: queries with a match, those without (`skipped`), accuracies (0 to 1).

    `NAME_low` and `NAME_high` are the 95% confidence interval of an accuracy by a bootstrap over
    the query identities, with the gallery fixed. With more than `MOST_PEOPLE` people, intervals are
    left out.

    Args:
        images: embeddings of all images. Those with a name are queries; all are the gallery.
        metric: metric of the distances.
        hidden: gallery images that are hidden from a query, see `Protocol`.
        most: maximum number of queries, drawn at random with a fixed seed; None takes all.

    Raises:
        NoMatchError: no query has a visible match.
    """
    named = np.flatnonzero(images.ids.pids.numpy() > DISTRACTOR)
    if most is not None:
        named = np.sort(np.random.default_rng(0).permutation(named)[:most])
    query, found = images.ids.take(torch.from_numpy(named)), []
    few = len(query.pids.unique()) <= MOST_PEOPLE
    for name, every in images.exits.items():
        every = np.asarray(every, np.float32)
        ranking = rank(every[named], every, query, images.ids, metric, hidden)
        queries = int(ranking.answerable.sum())
        counts = {"queries": queries, "skipped": len(named) - queries}
        bounds = Resampler.of(ranking, query.pids).bounds(ranking) if few else {}
        found.append({"exit": name, **counts, **ranking.summary(), **bounds})
    return found


def _known(exits: Mapping[str, np.ndarray], ids: Ids, where: Path) -> LabelledEmbeddings:
    """Leave out images of unknown people and junk, which are never a correct answer."""
    rows = (ids.pids >= DISTRACTOR).nonzero().flatten()
    if not (ids.pids > DISTRACTOR).any():
        raise UserError(f"{where} names no person: nothing can be measured")
    ids = ids.take(rows)
    numbered = Ids(ids.pids, ids.camids, np.arange(len(rows)))
    return LabelledEmbeddings({n: x[rows.numpy()] for n, x in exits.items()}, numbered)


def _numbers(labels: np.ndarray) -> np.ndarray:
    """(N,) numbers, with names numbered as in a gallery; UNKNOWN for empty ones."""
    if labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    return numbers_of(labels.astype(str))
