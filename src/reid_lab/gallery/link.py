"""Link the tracklets of two cameras one to one or to none (`reid-lab gallery link`)."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text
from scipy.optimize import linear_sum_assignment

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped
from reid_lab.gallery import show
from reid_lab.gallery.embed import Embedder
from reid_lab.gallery.queries import (
    Queries,
    embed_queries,
    list_queries,
    pooled,
    rows_of,
)
from reid_lab.gallery.result_files import check_out, write_rows
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery_format.card import IndexMetric
from reid_lab.gallery_format.embedding_files import EmbeddedImages
from reid_lab.openset.thresholds import thresholds_of_kind
from reid_lab.output.console import fold, head_table, stderr, stdout
from reid_lab.vectors.rows import distances

TABLES = (".jsonl", ".csv", ".parquet")


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


def run(args: Namespace) -> int:
    """Link two cameras; return 1 if an image is broken."""
    if args.out is not None:
        check_out(args.out, TABLES)
    gallery = SavedGallery.open(args.gallery) if args.gallery else None
    threshold = _threshold(args, gallery)
    metric: IndexMetric = gallery.card.metric if gallery else args.metric
    a, b = _both(args, gallery, metric)
    broken = a.broken + b.broken
    show.broken(broken)
    for side, path in ((a, args.a), (b, args.b)):
        if not side.images:
            raise UserError(f"no image of {escaped(path)} could be read")
    if a.embeddings.shape[1] != b.embeddings.shape[1]:
        raise UserError(
            f"embeddings of {a.embeddings.shape[1]} and {b.embeddings.shape[1]} dimensions cannot "
            "be compared: embed both by the same checkpoint and exit"
        )
    found = links(distances(a.embeddings, b.embeddings, metric), threshold)
    rows = [_row(link, a, b) for link in found]
    if args.out is None:
        _show(rows)
    else:
        write_rows(args.out, rows)
        stdout.print(f"{args.out}", soft_wrap=True, highlight=False, markup=False)
    stderr.print(Text(_summary(rows, threshold)), soft_wrap=True)
    return int(bool(broken))


def _threshold(args: Namespace, gallery: SavedGallery | None) -> float:
    if (args.threshold is None) == (args.false_accept_rate is None):
        raise UserError(
            "give --threshold, or --gallery with --false-accept-rate (see reid-lab gallery "
            "calibrate)"
        )
    if args.threshold is not None:
        return float(args.threshold)
    if gallery is None:
        raise UserError("--false-accept-rate needs --gallery, whose thresholds are used")
    accept = thresholds_of_kind(gallery.card.accept_thresholds, gallery.folder, "pairs")
    show.rate_note(accept, args.false_accept_rate)
    return accept.at(args.false_accept_rate).distance


def _both(
    args: Namespace, gallery: SavedGallery | None, metric: IndexMetric
) -> tuple[Queries, Queries]:
    """The tracklets of A and B.

    Raises:
        UserError: embeddings of two models, or of several exits without a choice.
    """
    networks: list[Embedder] = []
    keys: dict[str, Path] = {} if gallery is None else {gallery.card.fingerprint: gallery.folder}
    exits = [gallery.card.exit] if gallery else [args.exit] if args.exit else []

    def load() -> Embedder:
        if not networks:
            if args.checkpoint is None:
                raise UserError("images are embedded by a network: give --checkpoint")
            networks.append(
                Embedder.load(args.checkpoint, exits[0] if exits else None, args.device)
            )
            same(networks[0].fingerprint, args.checkpoint)
            exits[:] = [networks[0].exit]
        return networks[0]

    def same(fingerprint: str, path: Path) -> None:
        keys.setdefault(fingerprint, path)
        if len(keys) > 1:
            raise UserError(
                f"{' and '.join(escaped(path) for path in keys.values())} are of two models: their "
                "embeddings cannot be compared"
            )

    def check(read: EmbeddedImages, file: Path) -> np.ndarray:
        same(read.fingerprint, file)
        if not exits and len(read.exits) > 1:
            raise UserError(
                f"{escaped(file)} has several exits: give --exit, one of {', '.join(read.exits)}"
            )
        exits[:] = exits or list(read.exits)
        return rows_of(read, file, exits[0], metric)

    sides = []
    for path in (args.a, args.b):
        images, files = list_queries([path], None, gallery.card.pattern if gallery else "")
        queries = embed_queries(images, files, load, check, args.batch_size)
        sides.append(pooled(queries, metric, required=False))
    return sides[0], sides[1]


def _next(away: np.ndarray, a: int, b: int) -> float:
    others = np.concatenate([np.delete(away[a], b), np.delete(away[:, b], a)])
    return float(others.min(initial=np.inf))


def _two(away: np.ndarray) -> tuple[float, float]:
    """The two smallest distances."""
    ordered = np.append(np.sort(away), [np.inf, np.inf])
    return float(ordered[0]), float(ordered[1])


def _row(link: Link, a: Queries, b: Queries) -> dict[str, Any]:
    sides = [_side(name, side, row) for name, side, row in (("a", a, link.a), ("b", b, link.b))]
    people = [side[f"{name}_pid"] for name, side in zip("ab", sides, strict=True)]
    right = people[0] == people[1] if all(people) else None
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


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """The links; the files of `--out` have the numbers of images and the spreads, too."""
    table = head_table("A", "B", "Distance", "Next", "")
    fold(table, 0, 1)
    for row in rows:
        names = [Text(escaped(row[x]) or "nobody", "" if row[x] else "dim") for x in "ab"]
        following = "" if row["next"] is None else f"{row['next']:.4f}"
        mark = show.VERDICTS[row["right"] if row["linked"] else None]
        table.add_row(*names, f"{row['distance']:.4f}", following, mark)
    stdout.print(table)


def _summary(rows: Sequence[dict[str, Any]], threshold: float) -> str:
    linked = [row for row in rows if row["linked"]]
    known = [row["right"] for row in linked if row["right"] is not None]
    alone = [sum(1 for row in rows if not row["linked"] and row[name]) for name in "ab"]
    right = f"; {sum(known)} of {len(known)} links right by their names" if known else ""
    return (
        f"{len(linked)} links nearer than {threshold:.4f}; unmatched: {alone[0]} tracklets "
        f"in A, {alone[1]} in B{right}"
    )
