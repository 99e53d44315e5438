"""Checks of embeddings and ids before ranking."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, SupportsFloat

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.output.arguments import described


class NoMatchError(UserError):
    """No query has a visible match: no accuracy is defined."""


def as_rows(name: str, rows: Tensor | np.ndarray) -> Tensor:
    """`rows` (N, D) as a tensor without gradients; its dtype and device are kept.

    Raises:
        UserError: not a matrix of real numbers, or one without columns.
    """
    rows = as_tensor(name, rows)
    if rows.ndim != 2 or rows.is_complex() or not rows.shape[1]:
        raise UserError(
            f"{name} embeddings must be (N, D) real numbers with D of 1 or more, these are "
            f"{tuple(rows.shape)} {rows.dtype}"
        )
    return rows


def as_tensor(name: str, values: Tensor | np.ndarray) -> Tensor:
    """A tensor without gradients; it shares the memory of a NumPy array where possible."""
    if isinstance(values, Tensor):
        return values.detach() if values.requires_grad else values
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biufc":
        kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(f"{name}: give a torch tensor or a NumPy array of numbers, not {kind}")
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)  # torch has no longer numbers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # read-only: nothing is written to it
        native = values.dtype.newbyteorder("=")
        return torch.from_numpy(np.ascontiguousarray(values, dtype=native))


def as_ids(name: str, values: Tensor | np.ndarray | Sequence[int]) -> Tensor:
    """`values` (N,) as int64 on the CPU.

    Raises:
        UserError: not one whole number for each image.
    """
    if not isinstance(values, (Tensor, np.ndarray)):
        if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
            raise UserError(f"{name} is {described(values)}: give whole numbers, one per image")
        try:
            values = np.asarray(values, None if len(values) else np.int64)
        except ValueError as error:  # lists of other lengths
            raise UserError(f"{name}: {error}: give whole numbers, one per image") from error
    if isinstance(values, np.ndarray) and values.dtype.kind in "USO":
        first = f", such as {str(values.flat[0])!r}" if values.size else ""
        raise UserError(
            f"{name} must be whole numbers (N,), one per image; these are texts or objects{first}: "
            "number them, as by numpy.unique(names, return_inverse=True)[1] + 1"
        )
    ids = as_tensor(name, values)
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise UserError(
            f"{name} must be whole numbers (N,), one per image; these are {tuple(ids.shape)} "
            f"{ids.dtype}"
        )
    return ids.cpu().long()


def check_count(name: str, rows: Tensor, ids: int) -> None:
    """Check that there is an id for each of `rows`.

    Raises:
        UserError: there are more or fewer.
    """
    if len(rows) != ids:
        raise UserError(
            f"{len(rows)} {name} embeddings, but ids of {ids} {name} images: give one for each"
        )


def check_pair(query: Tensor, gallery: Tensor) -> None:
    """Check that `query` (Q, D) can be compared with `gallery` (G, D).

    Raises:
        UserError: an empty gallery or different dimensions.
    """
    if query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"query embeddings have {query.shape[1]} dimensions, gallery embeddings "
            f"{gallery.shape[1]}: embed both with the same model, at the same exit"
        )
    if not len(gallery):
        raise UserError("the gallery is empty: give at least one gallery embedding")


def row_sizes(rows: Tensor) -> Tensor:
    """(N,) largest absolute value of each row; NaN for a row with NaN."""
    if not len(rows):
        return rows.new_zeros(0)
    if not rows.is_floating_point():
        rows = rows.double()
    result: Tensor = torch.linalg.vector_norm(rows, torch.inf, dim=1)
    return result


def check_rows(
    name: str,
    rows: Tensor,
    paths: Sequence[str] | np.ndarray | None = None,
    zeros_allowed: bool = False,
) -> Tensor:
    """Check that each of `rows` (N, D) can be ranked; return `row_sizes`.

    Raises:
        UserError: rows with NaN, infinity or only zeros; the first ones are named.
    """
    sizes = row_sizes(rows)
    bad = {"not finite": ~torch.isfinite(sizes)}
    if not zeros_allowed:
        bad["only zeros"] = sizes == 0
    for what, which in bad.items():
        found = which.nonzero().flatten().tolist()
        if found:
            where = f" ({paths[found[0]]})" if paths is not None else ""
            others = f"; then rows {', '.join(map(str, found[1:5]))}" if found[1:] else ""
            more = f" and {len(found) - 5} more" if found[5:] else ""
            raise UserError(
                f"{len(found)} {name} embeddings are {what}, the first is row {found[0]}{where}"
                f"{others}{more}: correct these rows or leave them out. If a network that you "
                "trained embedded them, its training may have diverged: lower model.lr, or "
                "trainer.precision=32"
            )
    return sizes


def check_bytes(memory: object, least: float, what: str) -> float:
    """`memory` as a number of bytes that hold `what`.

    Raises:
        UserError: not a number, not finite, or below `least`.
    """
    known = isinstance(memory, SupportsFloat) and not isinstance(memory, (str, bool))
    value = float(memory) if known else float("nan")  # type: ignore[arg-type]
    if not least <= value < float("inf"):
        raise UserError(
            f"memory={memory!r}: give a number of bytes, at least {least:.3g} for {what}"
        )
    return value


def check_paths(name: str, paths: np.ndarray, boxes: np.ndarray | None) -> None:
    """Check that no image, a path or a path and a box, is listed twice.

    Raises:
        UserError: a duplicate; the first one and its rows are named.
    """
    seen: dict[tuple[Any, ...], int] = {}
    for row, path in enumerate(map(str, paths)):
        image = (path,) if boxes is None else (path, *boxes[row])
        if image in seen:
            raise UserError(
                f"{name} row {row} is the same image as row {seen[image]} ({path}): an image that "
                "is listed twice would count twice, remove one"
            )
        seen[image] = row
