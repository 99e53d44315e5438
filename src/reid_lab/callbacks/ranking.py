"""Rank the gallery with every exit, in validation and test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from typing import Protocol as Interface

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from reid_lab.budget.mul_adds import count_exits, exit_dims
from reid_lab.callbacks.gather import gather_rows
from reid_lab.callbacks.training_images import embed_training_images
from reid_lab.dataset import ReidDataModule, Split
from reid_lab.dataset.datamodule import Part
from reid_lab.dataset.transforms import denormalise
from reid_lab.errors import UserError
from reid_lab.files.tables import write_csv
from reid_lab.model import ReidModule
from reid_lab.model.base import DivergedError
from reid_lab.protocol import Pooling, Protocol, Query
from reid_lab.report.console import print_exits
from reid_lab.report.load import read_exits
from reid_lab.retrieval import PCA, Embeddings, Evaluation, Exit, Ids, evaluate
from reid_lab.retrieval.cameras import camera_pairs
from reid_lab.retrieval.checks import NoMatchError
from reid_lab.retrieval.evaluation import Reranker
from reid_lab.retrieval.projection import project
from reid_lab.retrieval.ranking import check_memory
from reid_lab.retrieval.space import MetricName
from reid_lab.types import Bytes, Units

METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoid", "mINP")
MOST_CAMERAS = 40  # that a figure of camera pairs can show


class RankingError(UserError):
    """An option of the ranking that it does not have, and those that it has."""


class Reference(Interface):
    """Features that need no training: uint8 (N, 3, H, W) -> (N, D), and what they cost."""

    def __call__(self, images: Tensor, /) -> Tensor: ...

    def mul_adds(self, height: int, width: int) -> int: ...


class RankingEvaluation(pl.Callback):
    """Collects every exit's embeddings and logs `val/<exit>/rank1`, `mAP`, ... and `test/...`.

    A test leaves `results/exits.csv` in `folder`, with 95% confidence intervals by a bootstrap
    over identities, and prints it; and `results/camera_pairs.csv`, the last exit's accuracy by
    query and gallery camera. The last evaluation is kept
    in `evaluation` for the callbacks that come after this one. The data set says the protocol.

    Args:
        references: name -> features that are ranked beside the exits, in tests.
        rerank: which of `rerankers` rank once more, in tests: a name or a list of names.
        pca: dimensions to keep of every exit in tests, fitted on the training images.
        whiten: scale each of them to unit variance.
        query: `multi` pools the query with its person's other images in its camera.
        pooling: of multi-queries.
        memory: bytes that ranking may take beside the embeddings, see retrieval/memory.py.

    Raises:
        RankingError: before the first batch: an unknown reranker, or one under L1, more
            dimensions than there are, too little memory, or a kind of query that the data set's
            protocol does not allow.
    """

    def __init__(
        self,
        folder: Path | str,
        metric: MetricName = "euclidean",
        references: Mapping[str, Reference] | None = None,
        rerank: str | Sequence[str] | None = None,
        rerankers: Mapping[str, Reranker] | None = None,
        pca: Units | None = None,
        whiten: bool = False,
        query: Query = "single",
        pooling: Pooling = "mean",
        memory: Bytes = 1e9,
    ) -> None:
        self.results = Path(folder) / "results"
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
        self.fit_projections = pca is not None  # other callbacks may ask for them, too
        self.projections: dict[str, PCA] = {}
        self.evaluation: Evaluation | None = None
        self.mul_adds: dict[str, int] = {}
        self._collected: dict[str, list[Tensor]] = defaultdict(list)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.protocol(trainer)  # whether it can be followed
        if _data(trainer).benchmark.companions is not None and self.query == "single":
            rank_zero_warn(
                "companions are embedded, but have no effect unless callbacks.ranking.query=multi"
            )
        self.count(_data(trainer), cast(ReidModule, pl_module))
        self._check_memory(_data(trainer), cast(ReidModule, pl_module))

    def _check_memory(self, data: ReidDataModule, module: ReidModule) -> None:
        if data.benchmark.protocol.tracklets:
            return  # how many are ranked is not known before they are pooled
        size = data.transforms.height, data.transforms.width
        dim = max(exit_dims(module, *size).values()) if self.rerankers else 0
        query, gallery = map(_ids, data.splits("test"))
        try:
            check_memory(query, gallery, self.memory)
            for reranker in self.rerankers:
                reranker.check_memory(query, gallery, dim, self.memory)
        except UserError as error:
            raise RankingError(f"callbacks.ranking.{error}") from error

    def count(self, data: ReidDataModule, module: ReidModule) -> None:
        """Mul-Adds of each exit, to `mul_adds`.

        Raises:
            RankingError: `pca` asks for more dimensions than there are.
        """
        transforms = data.transforms
        counts = count_exits(module, transforms.height, transforms.width)
        # every view of an image passes through the network
        self.mul_adds = {name: count * transforms.views for name, count in counts.items()}
        signed = ", ".join(module.exit_signs)
        if self.pca is not None and signed:
            raise RankingError(
                f"callbacks.ranking.pca={self.pca}: exit {signed} ranks by a metric with negative "
                "directions, which principal components would mix: use pca=null, or "
                "model.kissme_clip=true"
            )
        if self.pca is not None:
            dims = exit_dims(module, transforms.height, transforms.width)
            self._check_pca(self.pca, {**dims, "the training set": len(data.train_split) - 1})
            for name, dim in dims.items():
                self.mul_adds[name] += dim * self.pca

    def protocol(self, trainer: pl.Trainer) -> Protocol:
        """The data set's, with this callback's kind of query."""
        asked = _data(trainer).benchmark.protocol
        try:
            return replace(asked, query=self.query, pooling=self.pooling)
        except ValueError as error:
            raise RankingError(f"callbacks.ranking.query={self.query}: {error}") from error

    def _check_pca(self, pca: int, dims: Mapping[str, int]) -> None:
        small = {name: dim for name, dim in dims.items() if dim < pca}
        if small:
            listed = ", ".join(f"{name} {dim}" for name, dim in small.items())
            raise RankingError(
                f"callbacks.ranking.pca={pca}: there are fewer directions to keep: {listed}; "
                f"ask for {min(small.values())} or fewer, or null"
            )

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.count(_data(trainer), cast(ReidModule, pl_module))  # what was fitted has its size now
        if self.fit_projections:
            rows = embed_training_images(trainer, cast(ReidModule, pl_module))
            self.projections.update({name: PCA.fit(part) for name, part in rows.items()})

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._collected.clear()  # of a validation that was interrupted

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self._collected["index"].append(outputs["index"])
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
        self.on_validation_batch_end(trainer, pl_module, outputs)
        for name, reference in self.references.items():
            views = denormalise(batch["image"])
            rows = reference(views.flatten(0, 1)).view(*views.shape[:2], -1).mean(1)
            self._collected[name].append(rows)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rank(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rank(trainer, pl_module, "test")
        if self.evaluation is not None:
            bounds = self.evaluation.intervals()
            table = [{**row, **bounds[row["name"]]} for row in self.evaluation.table()]
            write_csv(self.results / "exits.csv", table)
            last = cast(ReidModule, pl_module).exit_names[-1]
            path = self.results / "camera_pairs.csv"
            write_camera_pairs(path, self.evaluation, last, self.memory)
            print_exits(read_exits(self.results / "exits.csv"))

    def _rank(self, trainer: pl.Trainer, pl_module: pl.LightningModule, part: Part) -> None:
        gathered = gather_rows(trainer, self._collected)
        self._collected.clear()
        self.evaluation = None
        if not trainer.is_global_zero:
            return  # one process ranks
        signs = {n: x.cpu() for n, x in cast(ReidModule, pl_module).exit_signs.items()}
        embeddings = self._embeddings(gathered, part, trainer, signs)
        if embeddings is None:
            rank_zero_warn(f"{part}: the batches seen hold no query or no gallery; not ranked")
            return
        testing = part == "test"
        if testing and self.pca is not None:
            embeddings = project(embeddings, self._kept(self.pca))
        if testing and self.rerankers and signs:
            rank_zero_warn(f"not re-ranked: {', '.join(signs)}, whose metric is no distance")
        rerankers = self.rerankers if testing else ()
        try:
            self.evaluation = evaluate(
                embeddings, self.metric, self.protocol(trainer), rerankers, self.memory
            )
        except NoMatchError as error:
            if testing:
                raise
            rank_zero_warn(f"{part}: not ranked: {error}")
            return
        for row in self.evaluation.table():
            for name in METRICS:
                key = f"{part}/{row['name'].replace(' ', '')}/{name}"
                pl_module.log(key, row[name], rank_zero_only=True)

    def _kept(self, dim: int) -> dict[str, PCA]:
        kept = {name: pca.keep(dim) for name, pca in self.projections.items()}
        return {name: pca.whiten() if self.whiten else pca for name, pca in kept.items()}

    def _embeddings(
        self, rows: dict[str, Tensor], part: Part, trainer: pl.Trainer, signs: dict[str, Tensor]
    ) -> Embeddings | None:
        data = _data(trainer)
        query, gallery = data.splits(part)
        index = rows.pop("index")  # into query, gallery, companions
        for name, values in rows.items():
            broken = int((~values.isfinite().all(1)).sum())
            if broken:
                raise DivergedError(
                    f"{part}, {name}: {broken} of {len(values)} embeddings are not finite: the "
                    "network has diverged (lower model.lr), or its numbers are too large for "
                    "trainer.precision (try 32-true)"
                )
        is_query, is_more = index < len(query), index >= len(query) + len(gallery)
        is_gallery = ~is_query & ~is_more
        if not bool(is_query.any()) or not bool(is_gallery.any()):
            return None
        transforms = data.transforms
        size = (transforms.height, transforms.width)
        exits = {
            name: Exit(
                values[is_query],
                values[is_gallery],
                self.references[name].mul_adds(*size) * transforms.views
                if name in self.references
                else self.mul_adds[name],
                reference=name in self.references,
                companions=values[is_more] if bool(is_more.any()) else None,
                signs=signs.get(name),
            )
            for name, values in rows.items()
        }
        images = data.eval_split(part)
        kinds = (is_query, is_gallery, is_more)
        q, g, more = (Ids.of(images.take(index[kind].numpy())) for kind in kinds)
        return Embeddings(q, g, exits, more if len(more) else None)


def _choose(names: str | Sequence[str] | None, rerankers: Mapping[str, Reranker]) -> list[Reranker]:
    asked = [names] if isinstance(names, str) else list(names or ())
    unknown = [name for name in asked if name not in rerankers]
    if unknown:
        raise RankingError(
            f"callbacks.ranking.rerank={names}: no reranker is called {', '.join(unknown)}; "
            f"choose of {', '.join(rerankers)}, or null"
        )
    return [rerankers[name] for name in asked]


def _ids(split: Split) -> Ids:
    return Ids(split.pids, split.camids, split.names)  # type: ignore[arg-type]


def _data(trainer: pl.Trainer) -> ReidDataModule:
    return cast(ReidDataModule, trainer.datamodule)  # type: ignore[attr-defined]


def write_camera_pairs(path: Path, evaluation: Evaluation, exit: str, memory: float) -> None:
    """Rank-1 and mAP of an exit by query and gallery camera; no file where there is one camera."""
    e = evaluation.embeddings
    cameras = {*e.query.camids.tolist(), *e.gallery.camids.tolist()}
    if len(cameras) > MOST_CAMERAS:
        rank_zero_warn(f"{path.name}: {len(cameras)} cameras, at most {MOST_CAMERAS}; not written")
        return
    rows = camera_pairs(evaluation, exit, memory) if len(cameras) > 1 else []
    if rows:
        write_csv(path, rows)
