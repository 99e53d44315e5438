"""Accuracy by the number of kept dimensions of an embedding. HAN, figure 6."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl

from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.callbacks.ranking import RankingError
from reid_lab.cost.mul_adds import exit_dims
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.results.rows.accuracy import DIMENSIONS
from reid_lab.retrieval import PCA, Evaluation, Ranking, rank
from reid_lab.retrieval.bootstrap import Resampler
from reid_lab.retrieval.evaluation import rank_trials
from reid_lab.retrieval.memory import GIGABYTE
from reid_lab.types import Distinct, Units


class FeatureDimensions(AfterRanking):
    """Adds `dimensions.csv`: accuracy of every exit with its first principal components.

    The components are fitted on the training images, in one pass over them.

    Args:
        dims: numbers of components, each at most the exit's dimension; empty adds nothing. The last
            row is always the exit's full dimension, without a projection.

    Raises:
        RankingError: before the first batch, for more dimensions than any exit has.
    """

    def __init__(self, dims: Distinct[Units] = ()) -> None:
        super().__init__()
        self.dims = sorted(set(dims))
        self._projections: dict[str, PCA] = {}
        self._projected = False  # whether the ranking callback has projected them
        self._memory: float = GIGABYTE

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        ranking = ranking_of(trainer, self)
        if not self.dims:
            return
        ranking.fit_projections, self._memory = True, ranking.memory
        self._projections, self._projected = ranking.projections, ranking.pca is not None
        size = data_of(trainer).transforms.size
        dims = exit_dims(cast(ReidModule, pl_module), *size)
        largest = ranking.pca or max(dims.values())
        if self.dims[-1] > largest:
            raise RankingError(
                f"callbacks.dimensions.dims={self.dims}: the embeddings have at most {largest} "
                "dimensions; use that many or fewer"
            )

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        rows = [
            row
            for name, e in evaluation.embeddings.exits.items()
            if not e.reference and self.dims
            for row in self._sweep(name, evaluation)
        ]
        results.dimensions = DIMENSIONS.of(rows)

    def _sweep(self, name: str, evaluation: Evaluation) -> list[dict[str, Any]]:
        e, ids = evaluation.embeddings.exits[name], evaluation.embeddings
        query, gallery = e.query, e.gallery
        full = query.shape[1]
        if not self._projected and e.signs is None:
            query, gallery = (self._projections[name](rows) for rows in (query, gallery))
        rows: list[tuple[int, Ranking]] = []
        # principal components would mix a signed metric's directions
        for dim in self.dims if e.signs is None else ():
            if dim < full and dim <= query.shape[1]:
                sides = (query[:, :dim], gallery[:, :dim], ids.query, ids.gallery)
                ranking = rank_trials(
                    rank, *sides, evaluation.metric, evaluation.protocol, self._memory
                )
                rows.append((dim, ranking))
        rows.append((full, evaluation.rankings[name]))
        people = Resampler.of(evaluation.rankings[name], ids.query.pids)
        return [
            {"exit": name, "dim": dim, **ranking.summary(), **people.bounds(ranking)}
            for dim, ranking in rows
        ]
