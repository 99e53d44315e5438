"""Every exit of a network, ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reid_lab.retrieval.distances import Metric, distance_chunks, junk_mask
from reid_lab.retrieval.embeddings import Embeddings
from reid_lab.retrieval.metrics import Ranking, rank


@dataclass(frozen=True)
class Evaluation:
    """`rankings`: name of the exit -> how it ranked the gallery."""

    embeddings: Embeddings
    rankings: Mapping[str, Ranking]
    metric: Metric = "euclidean"

    @property
    def mul_adds(self) -> dict[str, int]:
        return {name: e.mul_adds for name, e in self.embeddings.exits.items() if not e.reference}

    def table(self) -> list[dict[str, Any]]:
        """One row an exit: what it costs and how well it does, accuracies 0 to 1."""
        rows = []
        for name, ranking in self.rankings.items():
            e = self.embeddings.exits[name]
            rows.append(
                {
                    "name": name,
                    "kind": "reference" if e.reference else "exit",
                    "mul_adds": e.mul_adds,
                    "dim": e.query.shape[1],
                    **ranking.summary(),
                    "queries": int(ranking.answerable.sum()),
                    "skipped": int((~ranking.answerable).sum()),
                }
            )
        return rows

    def ranked_list(self, exit: str, query: int, top: int) -> list[dict[str, Any]]:
        """The `top` gallery images for one query at one exit, without the junk."""
        e, ids, gallery = (
            self.embeddings.exits[exit],
            self.embeddings.query,
            self.embeddings.gallery,
        )
        one = slice(query, query + 1)
        ((_, distances),) = distance_chunks(e.query[one], e.gallery, self.metric)
        junk = junk_mask(ids.pids[one], ids.camids[one], gallery.pids, gallery.camids)
        distances = distances.masked_fill(junk, torch.inf)[0]
        best = distances.argsort(stable=True)[:top]
        return [
            {
                "path": str(gallery.paths[i]),
                "pid": int(gallery.pids[i]),
                "camid": int(gallery.camids[i]),
                "distance": float(distances[i]),
                "match": bool(gallery.pids[i] == ids.pids[query]),
            }
            for i in best[torch.isfinite(distances[best])].tolist()
        ]


def evaluate(embeddings: Embeddings, metric: Metric = "euclidean", chunk: int = 256) -> Evaluation:
    """Rank the gallery with every exit.

    Raises:
        ValueError: no query has a match in another camera.
    """
    rankings = {
        name: rank(e.query, e.gallery, embeddings.query, embeddings.gallery, metric, chunk)
        for name, e in embeddings.exits.items()
    }
    if not any(bool(r.answerable.any()) for r in rankings.values()):
        raise ValueError(
            f"none of {len(embeddings.query)} queries has a gallery image of the same person "
            f"from another camera; query cameras: {np.unique(embeddings.query.camids).tolist()}, "
            f"gallery cameras: {np.unique(embeddings.gallery.camids).tolist()}"
        )
    return Evaluation(embeddings, rankings, metric)
