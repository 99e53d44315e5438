"""Distances of queries to the gallery, a chunk of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["euclidean", "cosine"]


def distance_chunks(
    query: Tensor, gallery: Tensor, metric: Metric = "euclidean", chunk: int = 256
) -> Iterator[tuple[slice, Tensor]]:
    """Yields (rows, distances (len(rows), G)) until all Q queries are done.

    `cosine` is 1 minus the cosine similarity, 0 to 2. Never more than `chunk` x G distances
    are held.

    Raises:
        ValueError: the dimensions differ, or the gallery is empty.
    """
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query embeddings have {query.shape[1]} dimensions, gallery {gallery.shape[1]}"
        )
    if not len(gallery):
        raise ValueError("the gallery is empty: there is nothing to rank")
    if metric == "cosine":
        query, gallery = F.normalize(query, dim=1), F.normalize(gallery, dim=1)
    for start in range(0, len(query), chunk):
        rows = slice(start, min(start + chunk, len(query)))
        if metric == "cosine":
            yield rows, 1 - query[rows] @ gallery.T
        else:
            yield rows, torch.cdist(query[rows], gallery)


def junk_mask(
    query_pids: Tensor, query_camids: Tensor, gallery_pids: Tensor, gallery_camids: Tensor
) -> Tensor:
    """(q, G) bool: Market-1501's junk, which neither helps nor hurts a ranking.

    The same person in the same camera, and boxes without a person (pid -1).
    """
    same = query_pids[:, None] == gallery_pids[None]
    same_camera = query_camids[:, None] == gallery_camids[None]
    return (same & same_camera) | (gallery_pids[None] == -1)
