"""Pooling of several images: multi-queries and tracklets.

Under cosine, images are scaled to length 1 before they are pooled, as in a gallery's searches and
in the service: see vectors/pooling.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.protocol import Pooling, Protocol
from reid_lab.retrieval.embeddings import Embeddings, Exit, Ids
from reid_lab.retrieval.space import Metric
from reid_lab.vectors import pooling as vectors


def pooled(embeddings: Embeddings, protocol: Protocol, metric: Metric = "euclidean") -> Embeddings:
    """The embeddings that the protocol ranks by `metric`.

    Raises:
        UserError: the protocol ranks tracklets, but the images have no track numbers.
    """
    if protocol.tracklets:
        embeddings = tracklets(embeddings, metric)
    if protocol.query == "multi":
        embeddings = multi_query(embeddings, protocol.pooling, metric)
    return embeddings


def tracklets(embeddings: Embeddings, metric: Metric = "euclidean") -> Embeddings:
    """Each tracklet's mean embedding, under its first image's name. MARS (ECCV 2016)."""
    query, query_of = _tracks(embeddings.query, "query")
    gallery, gallery_of = _tracks(embeddings.gallery, "gallery")
    exits = {
        name: replace(
            e,
            query=pool(e.query, query_of, len(query), _compared(e, metric)),
            gallery=pool(e.gallery, gallery_of, len(gallery), _compared(e, metric)),
        )
        for name, e in embeddings.exits.items()
    }
    return Embeddings(query, gallery, exits)


def multi_query(
    embeddings: Embeddings, pooling: Pooling = "mean", metric: Metric = "euclidean"
) -> Embeddings:
    """Each query pooled with the other images of its person in its camera.

    In Market-1501 (ICCV 2015), section 5, these are its `multi_query` images (hand-drawn boxes).
    For other data sets, they are the gallery images that are hidden from the query.
    """
    query, gallery = embeddings.query, embeddings.gallery
    others = gallery if embeddings.multi_query is None else embeddings.multi_query
    images = [torch.stack([ids.pids, ids.camids], 1) for ids in (query, others)]
    groups, group = torch.cat(images).unique(dim=0, return_inverse=True)
    exits = {}
    for name, e in embeddings.exits.items():
        more = e.gallery if e.multi_query is None else e.multi_query
        both = torch.cat([e.query, more])
        rows = pool(both, group, len(groups), _compared(e, metric), pooling)
        exits[name] = replace(e, query=rows[group[: len(query)]], multi_query=None)
    return Embeddings(query, gallery, exits)


def pool(
    rows: Tensor,
    group: Tensor,
    groups: int,
    metric: Metric = "euclidean",
    pooling: Pooling = "mean",
) -> Tensor:
    """(N, D) rows with groups (N,) -> (groups, D) mean or maximum of each group, float32."""
    name = metric if isinstance(metric, str) else ""
    wide = rows.float() if rows.dtype == torch.bfloat16 else rows  # which numpy lacks
    numbers = wide.numpy(force=True), group.numpy(force=True)
    return torch.from_numpy(vectors.pool(*numbers, groups, name, pooling)).to(rows.device)


def _compared(exit: Exit, metric: Metric) -> Metric:
    """The metric of an exit's images: none of `metric` if the exit has its own signs."""
    return metric if exit.signs is None else "euclidean"


def _tracks(ids: Ids, name: str) -> tuple[Ids, Tensor]:
    """The tracklets in the order of their first images, and the tracklet index of each image."""
    if ids.tracks is None:
        raise UserError(f"the {name} images have no track numbers: give Ids.tracks (N,)")
    keys = torch.stack([ids.pids, ids.camids, ids.tracks], 1).numpy()
    _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    return ids.take(torch.from_numpy(first[order])), torch.from_numpy(position[group.ravel()])
