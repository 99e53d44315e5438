"""What embeddings must be before anything is ranked by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def check_pair(query: Tensor, gallery: Tensor) -> None:
    """Whether `query` (Q, D) can be compared with `gallery` (G, D).

    Raises:
        ValueError: not matrices, an empty gallery or different dimensions.
    """
    for name, rows in (("query", query), ("gallery", gallery)):
        if rows.ndim != 2:
            raise ValueError(f"{name} embeddings must be (N, D), these are {tuple(rows.shape)}")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query embeddings have {query.shape[1]} dimensions, gallery {gallery.shape[1]}"
        )
    if not len(gallery):
        raise ValueError("the gallery is empty: there is nothing to rank")


def check_rows(
    name: str,
    rows: Tensor,
    paths: Sequence[str] | np.ndarray | None = None,
    zeros_allowed: bool = False,
) -> None:
    """Whether each of `rows` (N, D) can be ranked.

    Raises:
        ValueError: NaN, infinity or only zeros, naming the first such row.
    """
    # one pass: a sum is finite only where every value is (float32 sums of embeddings stay far
    # from overflowing)
    sizes = rows.float().abs().sum(1)
    bad = {"not finite": ~torch.isfinite(sizes)}
    if not zeros_allowed:
        bad["only zeros"] = sizes == 0
    for what, which in bad.items():
        found = which.nonzero().flatten()
        if len(found):
            first = int(found[0])
            where = f" ({paths[first]})" if paths is not None else ""
            raise ValueError(
                f"{len(found)} {name} embeddings are {what}, the first is row {first}{where}: "
                "has training diverged? Lower model.lr, or trainer.precision=32"
            )


def check_paths(name: str, paths: np.ndarray, boxes: np.ndarray | None = None) -> None:
    """Whether each image stands in `paths` (N,), or there in `boxes` (N, 4), once.

    Raises:
        ValueError: naming the first that comes twice, and its rows.
    """
    seen: dict[tuple[Any, ...], int] = {}
    for row, path in enumerate(map(str, paths)):
        image = (path,) if boxes is None else (path, *boxes[row])
        if image in seen:
            raise ValueError(
                f"{name} row {row} is the same image as row {seen[image]} ({path}): an image that "
                "stands twice counts twice, leave one out"
            )
        seen[image] = row
