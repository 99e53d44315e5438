"""Accuracy by the cameras of query and gallery."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reid_lab.retrieval.bootstrap import bootstrap
from reid_lab.retrieval.evaluation import Evaluation, rank_trials
from reid_lab.retrieval.memory import GIGABYTE
from reid_lab.retrieval.processes import ALONE, Processes
from reid_lab.retrieval.ranking import rank


def camera_pairs(
    evaluation: Evaluation,
    exit: str,
    memory: float = GIGABYTE,
    processes: Processes = ALONE,
) -> list[dict[str, Any]]:
    """One row per pair of cameras: queries of one, gallery images of the other only.

    Rows have confidence intervals (`bootstrap`), which are wide for pairs with few people. No
    random galleries are drawn. Pairs without an answerable query are left out, as are most pairs of
    a camera with itself.
    """
    e, query, gallery = (
        evaluation.embeddings.exits[exit],
        evaluation.embeddings.query,
        evaluation.embeddings.gallery,
    )
    protocol = replace(evaluation.protocol, shots=None, trials=1)
    metric = evaluation.metric_of(exit)
    rows = []
    for gallery_camera in gallery.camids.unique().tolist():
        gallery_rows = (gallery.camids == gallery_camera).nonzero().flatten()
        some = (e.query, e.gallery[gallery_rows], query, gallery.take(gallery_rows))
        found = rank_trials(rank, *some, metric, protocol, memory, processes)
        for query_camera in query.camids.unique().tolist():
            query_rows = (query.camids == query_camera).nonzero().flatten()
            ranking = found.take(query_rows)
            queries = int(ranking.answerable.sum())
            if queries:
                accuracy = {"queries": queries, "rank1": ranking.rank1, "mAP": ranking.mAP}
                pair = {"query_camera": query_camera, "gallery_camera": gallery_camera}
                bounds = bootstrap(ranking, query.pids[query_rows])
                rows.append({"exit": exit, **pair, **accuracy, **bounds})
    return sorted(rows, key=lambda row: (row["query_camera"], row["gallery_camera"]))
