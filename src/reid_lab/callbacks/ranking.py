"""Ranking of the gallery by every exit, in validation and test."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, cast
from typing import Protocol as Interface

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch import Size, Tensor

from reid_lab.callbacks.embedding import embed_training_images, gather_rows, processes_of
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.dataset import ReidDataModule, Split
from reid_lab.dataset.datamodule import Part, data_of
from reid_lab.dataset.loading import ROLES
from reid_lab.dataset.transforms import denormalise
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.model.base import DivergedError
from reid_lab.protocol import Pooling, Protocol, Query
from reid_lab.results import Results
from reid_lab.results.rows.accuracy import (
    CAMERA_PAIRS,
    EXITS,
    CameraPairRow,
    QueryScoreRow,
    WeightRow,
)
from reid_lab.retrieval import PCA, Embeddings, Evaluation, Exit, Ids, evaluate
from reid_lab.retrieval.accuracies import ACCURACIES
from reid_lab.retrieval.cameras import camera_pairs
from reid_lab.retrieval.checks import NoMatchError
from reid_lab.retrieval.processes import ALONE, Processes
from reid_lab.retrieval.projection import project
from reid_lab.retrieval.ranking import Reranker, check_memory
from reid_lab.retrieval.space import MetricName
from reid_lab.types import RUNNING, Bytes, Role, Units

log = logging.getLogger(__name__)
MOST_CAMERAS = 40  # cameras in a figure of camera pairs


def _sizes(module: pl.LightningModule) -> list[Size]:
    return [tensor.shape for tensor in chain(module.parameters(), module.buffers())]


class RankingError(UserError):
    """An invalid option of the ranking."""


class Reference(Interface):
    """Features without training: uint8 (N, 3, H, W) -> (N, D), and their Mul-Adds."""

    def __call__(self, images: Tensor, /) -> Tensor: ...

    def mul_adds(self, height: int, width: int) -> int: ...


class RankingEvaluation(pl.Callback):
    """Collects the embeddings of every exit and logs `val/<exit>/rank1`, `mAP`, ... and `test/...`.

    A test keeps its tables in `results`: one row per exit, with 95% confidence intervals by a
    bootstrap over identities, and the last exit's accuracy by query and gallery camera. The
    callbacks after this one use `evaluation` and add their tables. The protocol is the data set's.
    With several processes, each ranks its share of the queries, and the first one writes.

    Args:
        metric: distance between embeddings.
        references: name -> features that are ranked beside the exits, in tests.
        rerank: names of the `rerankers` that rank once more, in tests: one, a list, or None.
        rerankers: name -> re-ranking.
        pca: dimensions of every exit that tests keep, by a PCA of the training images; None keeps
            all.
        whiten: scale these dimensions to unit variance.
        query: `multi` pools the query with its person's other images in its camera.
        pooling: how multi-queries are pooled.
        memory: limit in bytes on what the ranking takes beside the embeddings in each process, see
            retrieval/memory.py.

    Raises:
        RankingError: before the first batch: an unknown reranker, re-ranking with L1, `pca`
            above an exit's dimension, too little memory, or a `query` that the data set's
            protocol does not allow.
    """

    role: Role = "ranking"

    def __init__(
        self,
        metric: MetricName = "euclidean",
        references: Mapping[str, Reference] | None = None,
        rerank: str | Sequence[str] | None = None,
        rerankers: Mapping[str, Reranker] | None = None,
        pca: Units | None = None,
        whiten: bool = False,
        query: Query = "single",
        pooling: Pooling = "mean",
        memory: Annotated[Bytes, RUNNING] = 1e9,
    ) -> None:
        self.metric, self.memory = metric, memory
        self.references = dict(references or {})
        self.rerankers = _choose(rerank, rerankers or {})
        if self.rerankers and metric == "l1":
            raise RankingError(
                f"callbacks.ranking.rerank={rerank}: re-ranking takes Euclidean distances; use "
                "metric euclidean or cosine, or rerank=null"
            )
        if whiten and pca is None:
            raise RankingError(
                "callbacks.ranking.whiten=true scales the directions that pca keeps: give "
                "callbacks.ranking.pca=128, or whiten=false"
            )
        self.pca, self.whiten, self.query, self.pooling = pca, whiten, query, pooling
        self.fit_projections = pca is not None  # other callbacks may need them, too
        self.projections: dict[str, PCA] = {}
        self.evaluation: Evaluation | None = None
        self.results = Results()
        self.mul_adds: dict[str, int] = {}
        self._counted: list[Size] = []  # the sizes of the model's tensors when they were counted
        self._collected: dict[str, list[Tensor]] = defaultdict(list)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.protocol(trainer)  # raises an error if the data set does not allow it
        unused = data_of(trainer).benchmark.multi_query is not None and self.query == "single"
        if unused and trainer.is_global_zero:
            log.info("multi-query images have no effect unless callbacks.ranking.query=multi")
        if not self.mul_adds:
            self.count(data_of(trainer), cast(ReidModule, pl_module))
        self._check_memory(data_of(trainer), cast(ReidModule, pl_module))

    def _check_memory(self, data: ReidDataModule, module: ReidModule) -> None:
        if data.benchmark.protocol.tracklets:
            return  # the number of rows is known after pooling
        dim = max(exit_dims(module, *data.transforms.size).values()) if self.rerankers else 0
        query, gallery = map(_ids, data.splits("test"))
        try:
            check_memory(query, gallery, self.memory)
            for reranker in self.rerankers:
                reranker.check_memory(query, gallery, dim, self.memory)
        except UserError as error:
            raise RankingError(f"callbacks.ranking.{error}") from error

    def count(self, data: ReidDataModule, module: ReidModule) -> None:
        """Set `mul_adds` of each exit for one view of an image.

        Raises:
            RankingError: `pca` is above an exit's dimension.
        """
        size = data.transforms.size
        counts = count_exits(module, *size)
        self.mul_adds, self._counted = counts, _sizes(module)
        signed = ", ".join(module.exit_signs)
        if self.pca is not None and signed:
            raise RankingError(
                f"callbacks.ranking.pca={self.pca}: exit {signed} ranks by a metric with negative "
                "directions, which principal components would mix: use pca=null, or "
                "model.kissme_clip=true and model.xqda_solver=eigen"
            )
        if self.pca is not None:
            dims = exit_dims(module, *size)
            self._check_pca(self.pca, {**dims, "the training set": len(data.train_split) - 1})
            for name, dim in dims.items():
                self.mul_adds[name] += dim * self.pca

    def protocol(self, trainer: pl.Trainer) -> Protocol:
        """The data set's protocol, with this callback's kind of query."""
        protocol = data_of(trainer).benchmark.protocol
        if self.rerankers and protocol.hidden == "itself":
            names = ", ".join(reranker.name for reranker in self.rerankers)
            raise RankingError(
                f"callbacks.ranking.rerank={names}: all against all each query is in the gallery, "
                "its own nearest neighbour; use rerank=null, or dataset.all_against_all=false"
            )
        try:
            return replace(protocol, query=self.query, pooling=self.pooling)
        except ValueError as error:
            raise RankingError(f"callbacks.ranking.query={self.query}: {error}") from error

    def _check_pca(self, pca: int, dims: Mapping[str, int]) -> None:
        small = {name: dim for name, dim in dims.items() if dim < pca}
        if small:
            listed = ", ".join(f"{name} {dim}" for name, dim in small.items())
            raise RankingError(
                f"callbacks.ranking.pca={pca}: must be at most the dimension: {listed}; "
                f"use {min(small.values())} or fewer, or null"
            )

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._counted != _sizes(pl_module):  # parts that are fitted in training have theirs now
            self.count(data_of(trainer), cast(ReidModule, pl_module))
        if self.fit_projections:
            rows = embed_training_images(trainer, cast(ReidModule, pl_module))
            shared = cast(ReidModule, pl_module).shared_exit
            fitted = {name: PCA.fit(part) for name, part in rows.items() if shared in (None, name)}
            self.projections.update({name: fitted[shared or name] for name in rows})

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._collected.clear()  # of a validation that was interrupted

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        *_: Any,
    ) -> None:
        self._collected["index"].append(batch["index"])
        self._collected["role"].append(batch["role"])
        for name, rows in outputs["exits"].items():
            self._collected[name].append(rows)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        *_: Any,
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch)
        for name, reference in self.references.items():
            views = denormalise(batch["image"])
            rows = reference(views.flatten(0, 1)).view(*views.shape[:2], -1).mean(1)
            self._collected[name].append(rows)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rank(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rank(trainer, pl_module, "test")
        self.results = Results()
        if self.evaluation is not None:
            module = cast(ReidModule, pl_module)
            last, processes = module.exit_names[-1], processes_of(trainer)
            pairs = rank_camera_pairs(self.evaluation, last, self.memory, processes)
            if not trainer.is_global_zero:
                return  # the others have ranked their share, and write nothing
            bounds = self.evaluation.intervals()
            views = data_of(trainer).transforms.test_views
            rows = [
                {**row, **bounds[row["name"]], "views": views} for row in self.evaluation.table()
            ]
            for name, weight in module.exit_weights.items():
                module.log(f"test/{name}/weight", weight, rank_zero_only=True)
                self.results.weights.append(WeightRow(exit=name, weight=float(weight)))
            self.results.exits = EXITS.of(rows)
            self.results.scores = query_scores(self.evaluation)
            self.results.camera_pairs = pairs

    def _rank(self, trainer: pl.Trainer, pl_module: pl.LightningModule, part: Part) -> None:
        gathered = gather_rows(trainer, self._collected)
        self._collected.clear()
        self.evaluation = None
        try:
            self._evaluate(gathered, trainer, pl_module, part)
        except UserError as error:
            if trainer.is_global_zero:
                raise
            raise SystemExit(1) from error  # which the first process says, of the same embeddings

    def _evaluate(
        self,
        gathered: dict[str, Tensor],
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        part: Part,
    ) -> None:
        module = cast(ReidModule, pl_module)
        signs = {n: x.cpu() for n, x in module.exit_signs.items()}
        embeddings = self._embeddings(gathered, part, trainer, signs, module.shared_exit)
        if embeddings is None:
            rank_zero_warn(f"{part}: not ranked: the batches hold no query or no gallery image")
            return
        testing = part == "test"
        if testing and self.pca is not None:
            embeddings = project(embeddings, self._kept(self.pca))
        if testing and self.rerankers and signs:
            rank_zero_warn(f"not re-ranked: {', '.join(signs)}: the metric has negative values")
        rerankers = self.rerankers if testing else ()
        try:
            self.evaluation = evaluate(
                embeddings,
                self.metric,
                self.protocol(trainer),
                rerankers,
                self.memory,
                processes_of(trainer),
            )
        except NoMatchError as error:
            if testing:
                raise
            rank_zero_warn(f"{part}: not ranked: {error}")
            return
        for row in self.evaluation.table() if trainer.is_global_zero else ():
            for name in ACCURACIES:
                key = f"{part}/{row['name'].replace(' ', '')}/{name}"
                pl_module.log(key, row[name], rank_zero_only=True)

    def _kept(self, dim: int) -> dict[str, PCA]:
        kept = {name: pca.keep(dim) for name, pca in self.projections.items()}
        return {name: pca.whiten() if self.whiten else pca for name, pca in kept.items()}

    def _embeddings(
        self,
        rows: dict[str, Tensor],
        part: Part,
        trainer: pl.Trainer,
        signs: dict[str, Tensor],
        shared: str | None,
    ) -> Embeddings | None:
        data = data_of(trainer)
        index, role = rows.pop("index"), rows.pop("role")
        for name, values in rows.items():
            broken = int((~values.isfinite().all(1)).sum())
            if broken:
                raise DivergedError(
                    f"{part}, {name}: {broken} of {len(values)} embeddings are not finite: the "
                    "network has diverged (lower model.lr), or its numbers are too large for "
                    "trainer.precision (try 32-true)"
                )
        of = {name: role == number for number, name in enumerate(ROLES)}  # (N,) bool
        if not bool(of["query"].any()) or not bool(of["gallery"].any()):
            return None
        multi = bool(of["multi_query"].any())
        galleries = {name: values[of["gallery"]] for name, values in rows.items()}
        if shared is not None:
            own = {name: galleries[name] for name in rows if name in self.references}
            galleries = dict.fromkeys(rows, galleries[shared]) | own
        exits = {
            name: Exit(
                values[of["query"]],
                galleries[name],
                self.references[name].mul_adds(*data.transforms.size)
                if name in self.references
                else self.mul_adds[name],
                reference=name in self.references,
                multi_query=values[of["multi_query"]] if multi else None,
                signs=signs.get(name),
            )
            for name, values in rows.items()
        }
        images = data.eval_split("test" if part == "test" else data.validated)
        ids = {name: Ids.of(images.take(index[rows_].numpy())) for name, rows_ in of.items()}
        return Embeddings(
            ids["query"], ids["gallery"], exits, ids["multi_query"] if multi else None
        )


def _choose(names: str | Sequence[str] | None, rerankers: Mapping[str, Reranker]) -> list[Reranker]:
    chosen = [names] if isinstance(names, str) else list(names or ())
    unknown = [name for name in chosen if name not in rerankers]
    if unknown:
        raise RankingError(
            f"callbacks.ranking.rerank={names}: unknown reranker {', '.join(unknown)}; "
            f"available: {', '.join(rerankers)}, or null"
        )
    return [rerankers[name] for name in chosen]


def _ids(split: Split) -> Ids:
    return Ids(split.pids, split.camids, split.names)  # type: ignore[arg-type]


def rank_camera_pairs(
    evaluation: Evaluation, exit: str, memory: float, processes: Processes = ALONE
) -> list[CameraPairRow]:
    """Rank-1 and mAP of an exit by query and gallery camera; empty for a single camera."""
    e = evaluation.embeddings
    cameras = {*e.query.camids.tolist(), *e.gallery.camids.tolist()}
    if len(cameras) > MOST_CAMERAS:
        rank_zero_warn(
            f"{CAMERA_PAIRS.file}: {len(cameras)} cameras, at most {MOST_CAMERAS}; left out"
        )
        return []
    return (
        CAMERA_PAIRS.of(camera_pairs(evaluation, exit, memory, processes))
        if len(cameras) > 1
        else []
    )


def query_scores(evaluation: Evaluation) -> list[QueryScoreRow]:
    """Each answerable query's Rank-1 and average precision at every exit and reference."""
    query, rankings = evaluation.embeddings.query, evaluation.rankings
    trials = next(iter(rankings.values())).answerable.sum(0)  # (Q,), the same at all exits
    known = trials.nonzero().flatten().tolist()
    means = {
        (name, exit): ((values * ranking.answerable).sum(0) / trials).tolist()
        for exit, ranking in rankings.items()
        for name, values in (("rank1", (ranking.first < 1).double()), ("ap", ranking.ap))
    }
    return [
        QueryScoreRow(
            image=Path(query.paths[i]).name,
            pid=str(int(query.pids[i])),
            camid=str(int(query.camids[i])),
            trials=int(trials[i]),
            rank1={exit: means["rank1", exit][i] for exit in rankings},
            ap={exit: means["ap", exit][i] for exit in rankings},
        )
        for i in known
    ]
