"""Every exit of a network, ranked under a protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.output.arguments import check_type, described
from reid_lab.protocol import DISTRACTOR, MARKET1501, Protocol
from reid_lab.retrieval.bootstrap import Resampler
from reid_lab.retrieval.checks import NoMatchError, as_rows, check_count, check_pair
from reid_lab.retrieval.embeddings import Embeddings, Ids
from reid_lab.retrieval.memory import GIGABYTE
from reid_lab.retrieval.metrics import Ranking
from reid_lab.retrieval.pooling import pooled
from reid_lab.retrieval.processes import ALONE, Processes
from reid_lab.retrieval.ranking import Reranker, hidden_mask, rank
from reid_lab.retrieval.space import Mahalanobis, Metric, Space

Shown = tuple[Tensor, Tensor]  # rows of the queries, and of the gallery images that they see


@dataclass(frozen=True)
class Evaluation:
    """`rankings`: exit -> its ranking of the gallery.

    `embeddings` are the ranked ones, pooled if the protocol pools. `reranked`: (exit, reranker) ->
    its ranking after re-ranking.
    """

    embeddings: Embeddings
    rankings: Mapping[str, Ranking]
    metric: Metric = "euclidean"
    protocol: Protocol = MARKET1501
    reranked: Mapping[tuple[str, str], Ranking] = field(default_factory=dict)

    def metric_of(self, exit: str) -> Metric:
        """The metric that ranked an exit: `metric`, or its own."""
        signs = self.embeddings.exits[exit].signs
        return self.metric if signs is None else Mahalanobis(None, signs)

    @property
    def mul_adds(self) -> dict[str, int]:
        return {name: e.mul_adds for name, e in self.embeddings.exits.items() if not e.reference}

    def table(self) -> list[dict[str, Any]]:
        """One row per exit: cost and accuracies (0 to 1)."""
        rows = []
        for name, ranking in self.rankings.items():
            kind = "reference" if self.embeddings.exits[name].reference else "exit"
            rows.append(self._row(name, name, kind, ranking))
        for (name, how), ranking in self.reranked.items():
            rows.append(self._row(f"{name} + {how}", name, "reranked", ranking))
        return rows

    def intervals(self) -> dict[str, dict[str, float]]:
        """Confidence intervals of all accuracies by the names of `table`, see bootstrap.py."""
        again = {f"{name} + {how}": ranking for (name, how), ranking in self.reranked.items()}
        every = {**self.rankings, **again}  # of the same queries
        resampler = Resampler.of(next(iter(every.values())), self.embeddings.query.pids)
        return {name: resampler.bounds(ranking) for name, ranking in every.items()}

    def _row(self, name: str, exit: str, kind: str, ranking: Ranking) -> dict[str, Any]:
        e = self.embeddings.exits[exit]
        answerable = ranking.answerable.any(0)
        return {
            "name": name,
            "kind": kind,
            "mul_adds": e.mul_adds,
            "dim": e.query.shape[1],
            **ranking.summary(),
            "queries": int(answerable.sum()),
            "skipped": int((~answerable).sum()),
        }

    def ranked_list(self, exit: str, query: int, top: int) -> list[dict[str, Any]]:
        """The `top` visible gallery images for one query at one exit."""
        e, gallery = self.embeddings.exits[exit], self.embeddings.gallery
        ids = self.embeddings.query.take(torch.tensor([query]))
        space = Space.of(e.query[query : query + 1], e.gallery, self.metric_of(exit))
        ((rows, reduced),) = space.blocks()
        reduced.masked_fill_(hidden_mask(ids, gallery, self.protocol.hidden), torch.inf)
        best = reduced[0].argsort(stable=True)[:top]
        distances = space.distances(rows, reduced)[0]
        return [
            {
                **gallery.to_dict(i),
                "distance": float(distances[i]),
                "match": bool(gallery.pids[i] == ids.pids[0] > DISTRACTOR),
            }
            for i in best[torch.isfinite(distances[best])].tolist()
        ]


def evaluate(
    embeddings: Embeddings,
    metric: Metric = "euclidean",
    protocol: Protocol = MARKET1501,
    rerankers: Sequence[Reranker] = (),
    memory: float = GIGABYTE,
    processes: Processes = ALONE,
) -> Evaluation:
    """Rank the gallery with every exit, and again with every reranker.

    An exit with `signs` ranks by these instead of `metric` and is not re-ranked.

    Args:
        memory: bytes that the work may take beside the embeddings, see memory.py.
        processes: processes that rank together, with the same embeddings and `memory`; each returns
            the whole evaluation.

    Raises:
        NoMatchError: no query has a visible match.
        UserError: see `rank`.
    """
    check_type("embeddings", embeddings, Embeddings, "Embeddings(query, gallery, exits)")
    check_type("protocol", protocol, Protocol, 'Protocol(), or Protocol(hidden="same_camera", ...)')
    if isinstance(rerankers, str) or not isinstance(rerankers, Sequence):
        raise UserError(
            f"rerankers is {described(rerankers)}: give a list, such as [KReciprocal()]"
        )
    for reranker in rerankers:
        if not callable(getattr(reranker, "rank", None)):
            raise UserError(f"rerankers: {described(reranker)}: give some such as KReciprocal()")
    embeddings = pooled(embeddings, protocol, metric)
    query, gallery = embeddings.query, embeddings.gallery
    rankings, reranked = {}, {}
    for name, e in embeddings.exits.items():
        own = metric if e.signs is None else Mahalanobis(None, e.signs)
        rows = (e.query, e.gallery, query, gallery, own, protocol, memory, processes)
        rankings[name] = rank_trials(rank, *rows)
        if not e.reference and e.signs is None:
            for reranker in rerankers:
                reranked[name, reranker.name] = rank_trials(reranker.rank, *rows)
    if not any(bool(r.answerable.any()) for r in rankings.values()):
        raise NoMatchError(
            f"none of {len(query)} queries has a gallery image of the same person that it may "
            f"see ({protocol.hidden} is hidden); query cameras: "
            f"{np.unique(query.camids).tolist()}, gallery cameras: "
            f"{np.unique(gallery.camids).tolist()}"
        )
    return Evaluation(embeddings, rankings, metric, protocol, reranked)


def rank_trials(
    ranker: Callable[..., Ranking],
    query: Tensor,
    gallery: Tensor,
    query_ids: Ids,
    gallery_ids: Ids,
    metric: Metric = "euclidean",
    protocol: Protocol = MARKET1501,
    memory: float = GIGABYTE,
    processes: Processes = ALONE,
) -> Ranking:
    """Rank each gallery of the protocol by `ranker`, such as `ranking.rank`.

    Queries without a gallery have no match. Processes take turns at trials, or share the queries of
    a single trial.
    """
    hidden = protocol.hidden
    query, gallery = as_rows("query", query), as_rows("gallery", gallery)
    check_pair(query, gallery)
    check_count("query", query, len(query_ids))
    check_count("gallery", gallery, len(gallery_ids))
    if hidden != "same_camera" and protocol.shots is None:  # the whole gallery: no copies
        return ranker(query, gallery, query_ids, gallery_ids, metric, hidden, memory, processes)
    found: list[Ranking] = []
    several = protocol.trials > 1
    own = range(processes.rank, protocol.trials, processes.world) if several else range(1)
    for groups in trials(query_ids, gallery_ids, protocol, own):
        parts = [
            ranker(
                query[rows],
                gallery[seen],
                query_ids.take(rows),
                gallery_ids.take(seen),
                metric,
                hidden,
                memory,
                ALONE if several else processes,
            )
            if len(seen)
            else Ranking.skipped(len(rows))
            for rows, seen in groups
        ]
        order = torch.cat([rows for rows, _ in groups]).argsort()
        found.append(Ranking.concatenate(parts).take(order))
    if not several:
        return found[0]
    turns = processes.gather(found)
    return Ranking.stack([turns[t % len(turns)][t // len(turns)] for t in range(protocol.trials)])


def trials(
    query: Ids, gallery: Ids, protocol: Protocol, numbers: Iterable[int] | None = None
) -> Iterator[list[Shown]]:
    """Yield, for each trial, groups of queries with the gallery of each group.

    Where a query's own camera is hidden, the queries of a camera form a group. `shots` images of
    each person are drawn once per group; distractors stay.

    Args:
        numbers: trials to draw; None draws all.
    """
    everyone = torch.arange(len(query)), torch.arange(len(gallery))
    groups = [everyone]
    if protocol.hidden == "same_camera" and len(query):
        groups = [
            ((query.camids == c).nonzero().flatten(), (gallery.camids != c).nonzero().flatten())
            for c in query.camids.unique()
        ]
    for trial in range(protocol.trials) if numbers is None else numbers:
        rng = np.random.default_rng([protocol.seed, trial])
        yield [
            (rows, seen if protocol.shots is None else _draw(seen, gallery, protocol.shots, rng))
            for rows, seen in groups
        ]


def _draw(seen: Tensor, gallery: Ids, shots: int, rng: np.random.Generator) -> Tensor:
    """Draw `shots` visible images of each person; distractors and junk stay. Rows ascend."""
    pids = gallery.pids[seen].numpy()
    order = np.lexsort([rng.random(len(pids)), pids])  # by person, shuffled within
    _, start, person = np.unique(pids[order], return_index=True, return_inverse=True)
    number = np.arange(len(pids)) - start[person.ravel()]
    kept = (number < shots) | (pids[order] <= DISTRACTOR)
    return seen[torch.from_numpy(np.sort(order[kept]))]
