"""Early exit in numpy: the loop behind replays, `BudgetedStream` and the torch-free runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


class Indexable(Protocol):
    """Rows of n queries along the first axis: an array or a tensor."""

    def __getitem__(self, index: Any, /) -> Any: ...


R = TypeVar("R", bound=Indexable)


@dataclass(frozen=True)
class Exited(Generic[R]):
    """The queries that exit together: their indices (m,) and their rows (m, ...) at that exit."""

    exit: int
    queries: Indices
    rows: R


def route(
    queries: int,
    exits: int,
    advance: Callable[[int, Indices, Indices], R],
    exits_here: Callable[[int, Indices, R], Mask],
) -> list[Exited[R]]:
    """Send queries from exit to exit, cheapest first, until each has exited.

    Args:
        queries: Q, the number of queries.
        exits: S, the number of exits.
        advance: (s, remaining, kept) -> the rows (n, ...) of the remaining queries at exit s.
            `remaining` (n,) are their indices in 0..Q-1, `kept` (n,) their positions among the rows
            of exit s - 1 (at the first exit, all of them).
        exits_here: (s, remaining, rows) -> (n,) bool, whether each query exits. Not called at the
            last exit, where all do.

    Returns:
        One entry per exit that is taken. Each query is in exactly one of them.
    """
    found: list[Exited[R]] = []
    remaining = kept = np.arange(queries)  # (n,)
    for s in range(exits if queries else 0):
        rows = advance(s, remaining, kept)  # (n, ...)
        last = s == exits - 1
        out = np.ones(len(remaining), dtype=bool) if last else exits_here(s, remaining, rows)
        here = np.flatnonzero(out)
        if len(here) == len(remaining):  # as of a single query, without a copy
            found.append(Exited(s, remaining, rows))
            break
        if len(here):
            found.append(Exited(s, remaining[here], rows[here]))
        kept = np.flatnonzero(~out)  # (n',) positions in this exit's rows
        remaining = remaining[kept]  # (n',) indices of the queries
    return found
