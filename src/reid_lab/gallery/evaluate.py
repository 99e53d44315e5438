"""`reid-lab gallery evaluate`: accuracies of labelled embeddings, all against all."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from rich.text import Text

from reid_lab.errors import UserError
from reid_lab.gallery.accept_thresholds import camera_ids
from reid_lab.gallery.queries import check_pooled
from reid_lab.gallery.result_files import check_out, write_rows
from reid_lab.gallery.store import UNKNOWN, SavedGallery
from reid_lab.gallery_format.embedding_files import FORMATS, read_embeddings
from reid_lab.gallery_format.rows import numbers_of
from reid_lab.output.console import head_table, stdout
from reid_lab.protocol import DISTRACTOR
from reid_lab.report.tables import bounded, percent
from reid_lab.retrieval.bootstrap import Resampler
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.metrics import CMC_RANKS
from reid_lab.retrieval.ranking import rank

ENDINGS = (".jsonl", ".csv", ".parquet")
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
        # each unknown camera counts as a separate one
        camids = np.where(camids == UNKNOWN, -10 - np.arange(len(read)), camids)
        pids = torch.from_numpy(_numbers(read.pids))
        images = _known(read.exits, Ids(pids, torch.from_numpy(camids), read.paths), path)
        return replace(images, pooled=read.pooled)


def run(args: Namespace) -> int:
    if args.out is not None:
        check_out(args.out, ENDINGS)
    if args.gallery.suffix.lower() in FORMATS:
        images = LabelledEmbeddings.of_file(args.gallery)
        metric = args.metric or images.pooled or "euclidean"
        check_pooled(images.pooled, args.gallery, metric)
    else:
        gallery = SavedGallery.open(args.gallery)
        metric = gallery.card.metric
        if args.metric not in (None, metric):
            raise UserError(f"{args.gallery} has the metric {metric}: leave --metric out")
        images = LabelledEmbeddings.of_gallery(gallery)
    rows = evaluated(images, metric, args.hidden, args.most)
    _show(args, images, rows)
    if args.out is not None:
        write_rows(args.out, rows)
    return 0


def evaluated(
    images: LabelledEmbeddings, metric: Any, hidden: Any = "itself", most: int | None = None
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


def _show(args: Namespace, images: LabelledEmbeddings, rows: list[dict[str, Any]]) -> None:
    people = images.ids.pids[images.ids.pids > DISTRACTOR].unique().numel()
    hides = args.hidden.replace("_", " ")
    queries = rows[0]["queries"] + rows[0]["skipped"]
    text = (
        f"{args.gallery}: {queries:,} queries, {len(images.ids):,} images, {people:,} people; "
        f"hidden from a query: {hides}"
    )
    stdout.print(Text(text, "bold"), soft_wrap=True)
    table = head_table("Exit", *(f"Rank-{k}" for k in CMC_RANKS), "mAP", "mINP", "Queries")
    names = (*(f"rank{k}" for k in CMC_RANKS), "mAP", "mINP")
    for row in rows:
        shown = {name: percent(row[name]) for name in names}
        # those of all do not fit into 80 columns
        shown |= {name: bounded(SimpleNamespace(**row), name) for name in ("rank1", "mAP")}
        table.add_row(row["exit"], *shown.values(), f"{row['queries']:,}")
    stdout.print(table)
    if "rank1_low" in rows[0]:
        text = "Below Rank-1 and mAP: the 95% confidence interval, by a bootstrap over people."
        stdout.print(text)
    if rows[0]["skipped"]:
        stdout.print(f"{rows[0]['skipped']:,} queries have no match and are left out.")
