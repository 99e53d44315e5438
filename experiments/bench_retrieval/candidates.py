"""The compared implementations: ours, other toolboxes by their public functions, plain faiss.

A candidate computes metrics from features. `prepare` imports its toolbox and returns the function
to time; a toolbox that is not installed is skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # torch: see `__main__.py`
    from experiments.bench_retrieval.people import FeatureSet, People

Scores = dict[str, float]
Work = Callable[["People"], Scores]
NEAREST = 50
QUERIES = 512  # in a matrix product
K1, K2, WEIGHT = 20, 6, 0.3  # Zhong et al., CVPR 2017


@dataclass(frozen=True)
class Candidate:
    """An implementation to time.

    Attributes:
        same: it computes the same metrics as the first candidate of its section, and must agree.
    """

    section: str
    name: str
    prepare: Callable[[], Work]
    same: bool = True


def ours_evaluation() -> Work:
    from reid_lab.retrieval.ranking import rank

    def work(people: People) -> Scores:
        query, gallery = people.query, people.gallery
        return _scores(rank(query.features, gallery.features, _ids(query), _ids(gallery)))

    return work


def ours_reranking() -> Work:
    from reid_lab.retrieval.rerank import KReciprocal

    def work(people: People) -> Scores:
        query, gallery = people.query, people.gallery
        reranked = KReciprocal(K1, K2, WEIGHT)
        return _scores(reranked.rank(query.features, gallery.features, _ids(query), _ids(gallery)))

    return work


def ours_search() -> Work:
    from reid_lab.gallery.index import build

    def work(people: People) -> Scores:
        build("flat", people.gallery.features).search(people.query.features, NEAREST)
        return {}

    return work


def floor_search() -> Work:
    import torch  # noqa: F401 - before faiss: each brings its own OpenMP

    import faiss  # isort: skip

    def work(people: People) -> Scores:
        index = faiss.IndexFlatL2(people.size.dim)
        index.add(people.gallery.features.numpy())
        index.search(people.query.features.numpy(), NEAREST)
        return {}

    return work


def product() -> Work:
    """The matrix product alone, in blocks of queries."""
    import torch

    def work(people: People) -> Scores:
        queries, gallery = people.query.features.split(QUERIES), people.gallery.features.T
        room = gallery.new_empty(QUERIES, gallery.shape[1])
        for rows in queries:
            torch.mm(rows, gallery, out=room[: len(rows)])
        return {}

    return work


def torchreid_evaluation() -> Work:
    warnings.filterwarnings("ignore")
    from torchreid.metrics import compute_distance_matrix, evaluate_rank
    from torchreid.metrics.rank import IS_CYTHON_AVAI

    _must_be_compiled(IS_CYTHON_AVAI)

    def work(people: People) -> Scores:
        distances = compute_distance_matrix(people.query.features, people.gallery.features)
        cmc, mean = evaluate_rank(distances.numpy(), *_labels(people))
        return {"mAP": float(mean), "rank1": float(cmc[0])}

    return work


def torchreid_reranking() -> Work:
    warnings.filterwarnings("ignore")
    from torchreid.metrics import compute_distance_matrix, evaluate_rank
    from torchreid.metrics.rank import IS_CYTHON_AVAI
    from torchreid.utils.rerank import re_ranking

    _must_be_compiled(IS_CYTHON_AVAI)

    def work(people: People) -> Scores:
        matrices = _three_matrices(people, compute_distance_matrix)
        distances = re_ranking(*matrices, k1=K1, k2=K2, lambda_value=WEIGHT)
        cmc, mean = evaluate_rank(distances, *_labels(people))
        return {"mAP": float(mean), "rank1": float(cmc[0])}

    return work


def fastreid_evaluation() -> Work:
    warnings.filterwarnings("ignore")
    from fastreid.evaluation.rank import IS_CYTHON_AVAI, evaluate_rank
    from fastreid.utils.compute_dist import build_dist

    _must_be_compiled(IS_CYTHON_AVAI)

    def work(people: People) -> Scores:
        distances = build_dist(people.query.features, people.gallery.features, "euclidean")
        return _fastreid_scores(evaluate_rank(distances, *_labels(people)))

    return work


def fastreid_reranking() -> Work:
    warnings.filterwarnings("ignore")
    from fastreid.evaluation.rank import IS_CYTHON_AVAI, evaluate_rank
    from fastreid.evaluation.rerank import re_ranking
    from fastreid.utils.compute_dist import compute_euclidean_distance

    _must_be_compiled(IS_CYTHON_AVAI)

    def work(people: People) -> Scores:
        matrices = _three_matrices(people, compute_euclidean_distance)
        distances = re_ranking(*matrices, k1=K1, k2=K2, lambda_value=WEIGHT)
        return _fastreid_scores(evaluate_rank(distances, *_labels(people)))

    return work


def fastreid_jaccard() -> Work:
    """The re-ranking of fast-reid's evaluator, with faiss on the CPU."""
    warnings.filterwarnings("ignore")
    import torch
    from fastreid.evaluation.rank import IS_CYTHON_AVAI, evaluate_rank
    from fastreid.utils.compute_dist import build_dist, compute_jaccard_distance

    _must_be_compiled(IS_CYTHON_AVAI)

    def work(people: People) -> Scores:
        query, gallery = people.query.features, people.gallery.features
        distances = build_dist(query, gallery, "euclidean")
        both = torch.cat([query, gallery])
        jaccard = compute_jaccard_distance(both, k1=K1, k2=K2, search_option=3)
        jaccard = jaccard[: len(query), len(query) :]
        distances = jaccard * (1 - WEIGHT) + distances * WEIGHT
        return _fastreid_scores(evaluate_rank(distances, *_labels(people)))

    return work


def oml_evaluation() -> Work:
    """OML, with a person in a camera as `sequence`: excluded from the ranking as in Market-1501."""
    warnings.filterwarnings("ignore")
    from oml.functional.knn import batched_knn_qg
    from oml.metrics.embeddings import calc_retrieval_metrics_rr
    from oml.retrieval.retrieval_results import RetrievalResults

    def work(people: People) -> Scores:
        query, gallery, k = people.query, people.gallery, people.size.gallery
        neighbours = batched_knn_qg(
            query.features,
            gallery.features,
            k,
            query.pids,
            gallery.pids,
            sequence_ids_query=query.pids * people.size.cameras + query.camids,
            sequence_ids_gallery=gallery.pids * people.size.cameras + gallery.camids,
        )
        metrics = calc_retrieval_metrics_rr(
            RetrievalResults(*neighbours),
            cmc_top_k=(1,),
            precision_top_k=(),
            map_top_k=(k,),
            verbose=False,
        )
        return {"mAP": float(metrics["map"][k]), "rank1": float(metrics["cmc"][1])}

    return work


CANDIDATES = (
    Candidate("evaluation", "ours", ours_evaluation),
    Candidate("evaluation", "torchreid, Cython", torchreid_evaluation),
    Candidate("evaluation", "fast-reid, Cython", fastreid_evaluation),
    Candidate("evaluation", "OML", oml_evaluation),
    Candidate("evaluation", "faiss top-50 alone", floor_search, same=False),
    Candidate("evaluation", "matrix product alone", product, same=False),
    Candidate("reranking", "ours", ours_reranking),
    Candidate("reranking", "torchreid", torchreid_reranking),
    Candidate("reranking", "fast-reid", fastreid_reranking),
    Candidate("reranking", "fast-reid, faiss Jaccard", fastreid_jaccard, same=False),
    Candidate("growth", "evaluation", ours_evaluation),
    Candidate("growth", "re-ranking", ours_reranking),
    Candidate("growth", "top-50, index flat", ours_search),
)
BY_NAME = {f"{c.section}: {c.name}": c for c in CANDIDATES}


def _ids(images: FeatureSet) -> Any:
    from reid_lab.retrieval.embeddings import Ids

    return Ids(images.pids, images.camids, np.empty(len(images.pids), dtype=object))


def _scores(ranking: Any) -> Scores:
    return {key: ranking.summary()[key] for key in ("mAP", "rank1")}


def _labels(people: People) -> tuple[np.ndarray, ...]:
    """pids and camids, in the argument order of both toolboxes."""
    query, gallery = people.query, people.gallery
    return tuple(x.numpy() for x in (query.pids, gallery.pids, query.camids, gallery.camids))


def _three_matrices(people: People, squared: Callable[..., Any]) -> list[np.ndarray]:
    """Distances query-gallery, query-query and gallery-gallery.

    They are not squared: both toolboxes square them, as the authors' code does.
    """
    q, g = people.query.features, people.gallery.features
    matrices = (np.asarray(squared(*pair)) for pair in ((q, g), (q, q), (g, g)))
    return [np.sqrt(np.maximum(m, 0, out=m), out=m) for m in matrices]


def _fastreid_scores(evaluated: tuple[np.ndarray, ...]) -> Scores:
    cmc, precisions, _ = evaluated
    return {"mAP": float(np.mean(precisions)), "rank1": float(cmc[0])}


def _must_be_compiled(is_compiled: bool) -> None:
    if not is_compiled:
        raise ImportError("its Cython part is not compiled; its Python part is too slow to compare")
