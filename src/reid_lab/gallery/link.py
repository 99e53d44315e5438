"""Link the tracklets of two cameras one to one or to none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.optimize import linear_sum_assignment

from reid_lab.errors import UserError, first, with_options
from reid_lab.files.regular import escaped
from reid_lab.gallery.build import opened
from reid_lab.gallery.embedder import Embedder
from reid_lab.gallery.network import no_checkpoint
from reid_lab.gallery.queries import (
    Queries,
    embed_queries,
    list_queries,
    pooled,
    rows_of,
)
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.card import IndexMetric
from reid_lab.gallery_format.embedding_files import EmbeddedImages
from reid_lab.openset.rates import check_rate
from reid_lab.openset.thresholds import AcceptThresholds, thresholds_of_kind
from reid_lab.output import arguments
from reid_lab.output.arguments import check_choice, check_whole
from reid_lab.vectors.rows import distances


@dataclass(frozen=True)
class Link:
    """Tracklet `a` of A and `b` of B; None without a match.

    `distance` is their distance, or that to the nearest tracklet of the other camera; `next` is the
    smallest other distance of either one, or infinite.
    """

    a: int | None
    b: int | None
    distance: float
    next: float


def assign(away: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Match rows and columns of distances (A, B) one to one; none matches beyond `threshold`.

    Minimises the sum of the distances of matches plus `threshold` for each unmatched row and column
    that could have been matched (Hungarian method).
    """
    gain = np.minimum(away - threshold, 0)
    rows, columns = linear_sum_assignment(gain)
    matched = gain[rows, columns] < 0
    return list(zip(rows[matched].tolist(), columns[matched].tolist(), strict=True))


def links(away: np.ndarray, threshold: float) -> list[Link]:
    """The matches of `assign`, nearest first, then the tracklets of A and of B without one."""
    pairs = assign(away, threshold)
    found = [Link(a, b, float(away[a, b]), _next(away, a, b)) for a, b in pairs]
    found.sort(key=lambda link: link.distance)
    alone_a = sorted({*range(len(away))} - {a for a, _ in pairs})
    alone_b = sorted({*range(away.shape[1])} - {b for _, b in pairs})
    found += [Link(a, None, *_two(away[a])) for a in alone_a]
    return found + [Link(None, b, *_two(away[:, b])) for b in alone_b]


@dataclass(frozen=True)
class LinkResult:
    """The links of two cameras.

    Attributes:
        links: matches, nearest first, then tracklets of A and of B without one; `a` and `b` are
            rows of the sides.
        a, b: tracklets of the cameras with their embeddings (A, D) and (B, D).
        threshold: largest distance of a match.
        accept: thresholds of pairs that it is of; None if it was given.
    """

    links: list[Link]
    a: Queries
    b: Queries
    threshold: float
    accept: AcceptThresholds | None = None

    def __repr__(self) -> str:
        linked = sum(link.a is not None and link.b is not None for link in self.links)
        sides = f"a={len(self.a.images)}, b={len(self.b.images)}"
        return f"LinkResult({sides}, linked={linked}, threshold={self.threshold:g})"

    @property
    def broken(self) -> list[str]:
        """A message for each image that could not be read and was left out."""
        return self.a.broken + self.b.broken

    def rows(self) -> list[dict[str, Any]]:
        """One row per link: names, people, images and spreads of both tracklets, distances."""
        return [_row(link, self.a, self.b) for link in self.links]


def link_tracklets(
    a: Path | str,
    b: Path | str,
    checkpoint: Path | str | None = None,
    *,
    threshold: float | None = None,
    gallery: SavedGallery | Path | str | None = None,
    false_accept_rate: float | None = None,
    exit: str | None = None,
    metric: IndexMetric = "euclidean",
    batch_size: int = 64,
    device: str = "auto",
) -> LinkResult:
    """Match the tracklets of two cameras one to one or to none.

    Args:
        a: tracklets of one camera: a folder with a folder of images for each, a CSV file with a
            column `tracklet`, or a file of embeddings.
        b: tracklets of the other camera.
        checkpoint: network for images; files of embeddings need none.
        threshold: largest distance of two tracklets of one person.
        gallery: gallery to take the exit, metric and threshold from.
        false_accept_rate: in place of `threshold`: rate of the gallery's threshold for pairs.
        exit: exit to embed at; None takes the gallery's, else the last one.
        metric: metric of the distances, if there is no gallery.
        batch_size: images at a time.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.

    Raises:
        UserError: neither or both of `threshold` and `false_accept_rate`, no threshold for that
            rate, no image that can be read, no checkpoint for images, or embeddings of two models
            or exits.
    """
    check_choice("metric", metric, get_args(IndexMetric))
    check_whole("batch_size", batch_size)
    known = None if gallery is None else opened(gallery)
    limit, accept = _threshold(threshold, false_accept_rate, known)
    metric = known.card.metric if known else metric
    sides = _Sides(known, arguments.path_or_none("checkpoint", checkpoint), exit, metric, device)
    paths = arguments.path("a", a), arguments.path("b", b)
    one, two = (sides.read(path, batch_size) for path in paths)
    for side, path in zip((one, two), paths, strict=True):
        if not side.images:
            reasons = "".join(f"\n  {line}" for line in first(side.broken))
            raise UserError(f"no image of {escaped(path)} could be read{reasons}")
    if one.embeddings.shape[1] != two.embeddings.shape[1]:
        raise UserError(
            f"embeddings of {one.embeddings.shape[1]} and {two.embeddings.shape[1]} dimensions "
            "cannot be compared: embed both by the same checkpoint and exit"
        )
    found = links(distances(one.embeddings, two.embeddings, metric), limit)
    return LinkResult(found, one, two, limit, accept)


def _threshold(
    threshold: float | None, rate: float | None, gallery: SavedGallery | None
) -> tuple[float, AcceptThresholds | None]:
    if (threshold is None) == (rate is None):
        raise with_options(
            UserError("give threshold, or gallery with false_accept_rate (see calibrate_gallery)"),
            "give --threshold, or --gallery with --false-accept-rate (see reid-lab gallery "
            "calibrate)",
        )
    if rate is not None:
        check_rate(rate)
    if threshold is not None:
        number = isinstance(threshold, Real) and not isinstance(threshold, bool)
        if not number or not 0 < threshold < math.inf:
            raise UserError(f"threshold={threshold!r}: give a finite number above 0")
        return threshold, None
    if gallery is None or rate is None:
        raise with_options(
            UserError("false_accept_rate needs gallery, whose thresholds are used"),
            "--false-accept-rate needs --gallery, whose thresholds are used",
        )
    accept = thresholds_of_kind(gallery.card.accept_thresholds, gallery.folder, "pairs")
    return accept.at(rate).distance, accept


class _Sides:
    """Reads tracklets whose embeddings can be compared: of one model and exit."""

    def __init__(
        self,
        gallery: SavedGallery | None,
        checkpoint: Path | None,
        exit: str | None,
        metric: IndexMetric,
        device: str,
    ) -> None:
        self.pattern = gallery.card.pattern if gallery else ""
        self.checkpoint, self.metric, self.device = checkpoint, metric, device
        self.exit = gallery.card.exit if gallery else exit
        self.models = {gallery.card.fingerprint: gallery.folder} if gallery else {}
        self.network: Embedder | None = None

    def read(self, path: Path, batch_size: int) -> Queries:
        """The tracklets of a side.

        Raises:
            UserError: embeddings of two models, or of several exits without a choice.
        """
        images, files = list_queries([path], None, self.pattern)
        queries = embed_queries(images, files, self._load, self._rows, batch_size)
        return pooled(queries, self.metric, required=False)

    def _load(self) -> Embedder:
        if self.network is None:
            if self.checkpoint is None:
                raise no_checkpoint()
            self.network = Embedder.load(self.checkpoint, self.exit, self.device)
            self._check(self.network.fingerprint, self.checkpoint)
            self.exit = self.network.exit
        return self.network

    def _check(self, fingerprint: str, path: Path) -> None:
        self.models.setdefault(fingerprint, path)
        if len(self.models) > 1:
            names = " and ".join(escaped(path) for path in self.models.values())
            raise UserError(f"{names} are of two models: their embeddings cannot be compared")

    def _rows(self, read: EmbeddedImages, file: Path) -> np.ndarray:
        self._check(read.fingerprint, file)
        if self.exit is None and len(read.exits) > 1:
            text, names = f"{escaped(file)} has several exits: give", ", ".join(read.exits)
            raise with_options(
                UserError(f"{text} exit, one of {names}"), f"{text} --exit, one of {names}"
            )
        self.exit = self.exit or next(iter(read.exits))
        return rows_of(read, file, self.exit, self.metric)


def _next(away: np.ndarray, a: int, b: int) -> float:
    others = np.concatenate([np.delete(away[a], b), np.delete(away[:, b], a)])
    return float(others.min(initial=np.inf))


def _two(away: np.ndarray) -> tuple[float, float]:
    """The two smallest distances."""
    ordered = np.append(np.sort(away), [np.inf, np.inf])
    return float(ordered[0]), float(ordered[1])


def _row(link: Link, a: Queries, b: Queries) -> dict[str, Any]:
    sides = [_side(name, side, row) for name, side, row in (("a", a, link.a), ("b", b, link.b))]
    right = None
    if link.a is not None and link.b is not None:
        one, other = a.images[link.a], b.images[link.b]
        right = one.pid == other.pid if one.person and other.person else None
        sides[1]["b_pid"] = one.person if right else other.person  # one spelling of a person
    following = link.next if np.isfinite(link.next) else None
    return {
        **sides[0],
        **sides[1],
        "linked": link.a is not None and link.b is not None,
        "distance": link.distance,
        "next": following,
        "right": right,
    }


def _side(name: str, side: Queries, row: int | None) -> dict[str, Any]:
    """The columns of a tracklet; empty without one."""
    if row is None:
        found: list[Any] = ["", "", 0, 0.0]
    else:
        image, spread = side.images[row], (side.spreads or [])[row]
        found = [image.tracklet or str(image.path), image.person, spread.images, spread.distance]
    return dict(zip((name, f"{name}_pid", f"{name}_images", f"{name}_spread"), found, strict=True))
