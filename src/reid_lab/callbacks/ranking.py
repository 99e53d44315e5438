"""Rank the gallery with every exit, in validation and test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from reid_lab.budget.mul_adds import count_exits
from reid_lab.dataset import ReidDataModule, Split
from reid_lab.dataset.datamodule import Part
from reid_lab.dataset.transforms import denormalise
from reid_lab.model import ReidModule
from reid_lab.report import load_run
from reid_lab.report.console import print_exits
from reid_lab.results import write_csv
from reid_lab.retrieval import Embeddings, Evaluation, Exit, Ids, evaluate
from reid_lab.retrieval.distances import Metric
from reid_lab.types import Count


class Reference(Protocol):
    """Features that need no training: uint8 (N, 3, H, W) -> (N, D), and what they cost."""

    def __call__(self, images: Tensor, /) -> Tensor: ...

    def mul_adds(self, height: int, width: int) -> int: ...


class RankingEvaluation(pl.Callback):
    """Collects every exit's embeddings and logs `val/<exit>/rank1`, `mAP`, ... and `test/...`.

    A test leaves `results/exits.csv` in `folder` and prints it. The last evaluation is kept
    in `evaluation` for the callbacks that come after this one.

    Args:
        references: name -> features that are ranked beside the exits, in tests.
        chunk: queries whose distances to the whole gallery are held at once.
    """

    def __init__(
        self,
        folder: Path | str,
        metric: Metric = "euclidean",
        references: Mapping[str, Reference] | None = None,
        chunk: Count = 256,
    ) -> None:
        self.folder, self.metric, self.chunk = Path(folder), metric, chunk
        self.references = dict(references or {})
        self.evaluation: Evaluation | None = None
        self.mul_adds: dict[str, int] = {}
        self._collected: dict[str, list[Tensor]] = defaultdict(list)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        transforms = _data(trainer).transforms
        counts = count_exits(cast(ReidModule, pl_module), transforms.height, transforms.width)
        # every view of an image passes through the network
        self.mul_adds = {name: count * transforms.views for name, count in counts.items()}

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
        if self.evaluation is not None and trainer.is_global_zero:
            table = self.evaluation.table()
            write_csv(self.folder / "results" / "exits.csv", table)
            print_exits(load_run(self.folder).exits)

    def _rank(self, trainer: pl.Trainer, pl_module: pl.LightningModule, part: Part) -> None:
        gathered = gather_rows(trainer, self._collected)
        self._collected.clear()
        self.evaluation = None
        embeddings = self._embeddings(gathered, *_data(trainer).splits(part), trainer)
        if embeddings is None:
            rank_zero_warn(f"{part}: the batches seen hold no query or no gallery; not ranked")
            return
        self.evaluation = evaluate(embeddings, self.metric, self.chunk)
        for row in self.evaluation.table():
            for name in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP"):
                pl_module.log(f"{part}/{row['name']}/{name}", row[name], rank_zero_only=True)

    def _embeddings(
        self, rows: dict[str, Tensor], query: Split, gallery: Split, trainer: pl.Trainer
    ) -> Embeddings | None:
        index = rows.pop("index")
        is_query = index < len(query)  # evaluation batches index query + gallery
        if bool(is_query.all()) or not bool(is_query.any()):
            return None
        transforms = _data(trainer).transforms
        size = (transforms.height, transforms.width)
        exits = {
            name: Exit(
                values[is_query],
                values[~is_query],
                self.references[name].mul_adds(*size) * transforms.views
                if name in self.references
                else self.mul_adds[name],
                reference=name in self.references,
            )
            for name, values in rows.items()
        }
        return Embeddings(
            _ids(query, index[is_query]), _ids(gallery, index[~is_query] - len(query)), exits
        )


def gather_rows(
    trainer: pl.Trainer, collected: Mapping[str, Sequence[Tensor]]
) -> dict[str, Tensor]:
    """All processes' rows on the CPU, in the order of `index`, each once.

    The samplers pad, so that the ranks have equally many; what came twice is dropped.
    """
    rows = {name: torch.cat(list(parts)) for name, parts in collected.items()}
    if trainer.world_size > 1:
        rows = {
            name: trainer.strategy.all_gather(part).flatten(0, 1) for name, part in rows.items()
        }
    _, first = np.unique(rows["index"].cpu().numpy(), return_index=True)
    return {name: part.cpu()[torch.from_numpy(first)] for name, part in rows.items()}


def _ids(split: Split, index: Tensor) -> Ids:
    part = split.take(index.numpy())
    paths = np.array([str(part.path(i)) for i in range(len(part))], dtype=object)
    return Ids(torch.from_numpy(part.pids), torch.from_numpy(part.camids), paths)


def _data(trainer: pl.Trainer) -> ReidDataModule:
    return cast(ReidDataModule, trainer.datamodule)  # type: ignore[attr-defined]
