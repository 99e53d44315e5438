"""CMC, mAP and mINP from the ranks of the matches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid_lab.retrieval.accuracies import CMC_RANKS
from reid_lab.retrieval.checks import NoMatchError


@dataclass(frozen=True)
class Ranking:
    """Results of Q queries in T trials (T is 1 except for random galleries).

    All are (T, Q). `first` int64: 0-based rank of the first match. `ap`: average precision.
    `ap_trapezoid`: the same by the trapezoid rule. `inp`: matches / position of the last one (Ye et
    al., TPAMI 2021). `answerable` bool: the query has a match. Queries without a match have 0
    elsewhere and are excluded from the accuracies.

    Raises:
        NoMatchError: an accuracy is read and no query is answerable.
    """

    first: Tensor
    ap: Tensor
    ap_trapezoid: Tensor
    inp: Tensor
    answerable: Tensor

    @staticmethod
    def of_ranks(ranks: Tensor, matches: Tensor) -> Ranking:
        """The ranking of queries by the ranks of their matches.

        Plain AP: the mean over the matches of the precision at each (torchreid, fast-reid).
        Trapezoid: the mean of that and the precision just before each, which is 1 at the
        start (the evaluation code of Oxford buildings and Market-1501).

        Args:
            ranks: (Q, M) 1-based ranks of the matches, ascending, with padding.
            matches: (Q,) number of matches of each query, without padding.
        """
        number = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
        real = number <= matches[:, None]
        precision = number / ranks.double()
        before = torch.where(ranks > 1, (number - 1) / (ranks - 1).clamp(min=1).double(), 1.0)
        at_least_one = matches.clamp(min=1)
        columns = (
            (ranks[:, 0] - 1) * (matches > 0),
            (precision * real).sum(1) / at_least_one,
            ((precision + before) / 2 * real).sum(1) / at_least_one,
            matches / (ranks * real).amax(1).clamp(min=1).double(),
            matches > 0,
        )
        return Ranking(*(column[None].cpu() for column in columns))

    @staticmethod
    def skipped(queries: int) -> Ranking:
        """The ranking of queries without a match."""
        ap, ap_trapezoid, inp = torch.zeros(3, 1, queries, dtype=torch.float64)
        return Ranking(ap.long(), ap, ap_trapezoid, inp, ap.bool())

    @staticmethod
    def stack(trials: list[Ranking]) -> Ranking:
        """Stack trials of the same queries."""
        return Ranking(*(torch.cat(column) for column in zip(*map(_columns, trials), strict=True)))

    @staticmethod
    def concatenate(parts: list[Ranking]) -> Ranking:
        """Join rankings of different queries over the same trials; [] gives one without queries."""
        parts = parts or [Ranking.skipped(0)]
        return Ranking(
            *(torch.cat(column, 1) for column in zip(*map(_columns, parts), strict=True))
        )

    def put(self, queries: slice, part: Ranking) -> None:
        """Set the queries at `queries` to those of `part`."""
        for column, values in zip(_columns(self), _columns(part), strict=True):
            column[:, queries] = values

    def take(self, queries: Tensor) -> Ranking:
        """The queries at `queries` (ints), in that order."""
        return Ranking(*(column[:, queries] for column in _columns(self)))

    def cmc(self, k: int) -> float:
        """Share of queries with a match among the first `k`."""
        return self._mean(self.first < k)

    @property
    def rank1(self) -> float:
        return self.cmc(1)

    @property
    def mAP(self) -> float:  # noqa: N802
        return self._mean(self.ap)

    @property
    def mAP_trapezoid(self) -> float:  # noqa: N802
        return self._mean(self.ap_trapezoid)

    @property
    def mINP(self) -> float:  # noqa: N802
        return self._mean(self.inp)

    def scores(self) -> dict[str, Tensor]:
        """Accuracy by the names of `summary` -> its value (T, Q) for each query."""
        ranks = {f"rank{k}": self.first < k for k in CMC_RANKS}
        return {**ranks, "mAP": self.ap, "mAP_trapezoid": self.ap_trapezoid, "mINP": self.inp}

    def summary(self) -> dict[str, float]:
        """rank1, rank5, rank10, rank20, mAP, mAP_trapezoid and mINP, each 0 to 1."""
        return {name: self._mean(values) for name, values in self.scores().items()}

    def _mean(self, values: Tensor) -> float:
        if not bool(self.answerable.any()):
            raise NoMatchError(
                f"none of {self.answerable.shape[1]} queries has a gallery image of the same "
                "person that the protocol does not hide: no accuracy is defined; check pids and "
                "camids"
            )
        return values[self.answerable].double().mean().item()


def _columns(r: Ranking) -> tuple[Tensor, ...]:
    return r.first, r.ap, r.ap_trapezoid, r.inp, r.answerable
