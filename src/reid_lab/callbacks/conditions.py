"""Accuracy by size, sharpness and occlusion of the query image, to see where a model fails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from reid_lab.callbacks.after_ranking import AfterRanking
from reid_lab.callbacks.embedding import gather_rows
from reid_lab.classical import HsvHistogram
from reid_lab.cost.currency import Floats
from reid_lab.dataset import Split
from reid_lab.dataset.datamodule import data_of
from reid_lab.dataset.loading import ROLES
from reid_lab.dataset.transforms import denormalise
from reid_lab.images.pixels import read_size
from reid_lab.model import ReidModule
from reid_lab.protocol import DISTRACTOR, Hidden
from reid_lab.results import Results
from reid_lab.results.rows.accuracy import ConditionRow
from reid_lab.retrieval import Evaluation, Ids
from reid_lab.retrieval.bootstrap import bootstrap
from reid_lab.retrieval.ranking import hidden_mask

QUARTILES = (0.25, 0.5, 0.75)
STRIPES = 6
HISTOGRAM = HsvHistogram(STRIPES, (8, 4, 4))
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class ImageConditions(AfterRanking):
    """Adds `conditions.csv`: accuracy of the last exit by quartiles of three conditions.

    `size`: pixels of the query's box in its file. `sharpness`: variance of the Laplacian at the
    size of tests; low is blurred. `occlusion`: an estimate from colours, see `occlusion`. Rows have
    95% confidence intervals by a bootstrap over identities. There are none for a condition that is
    the same for all queries, or in a test of tracklets.
    """

    def __init__(self) -> None:
        super().__init__()
        self._collected: dict[str, list[Tensor]] = defaultdict(list)
        self._rows: dict[str, Tensor] = {}
        self._images: Split | None = None  # those of `_rows`

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._collected.clear()

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        *_: Any,
    ) -> None:
        pixels = denormalise(batch["image"])[:, 0]  # of the first view, (N, 3, H, W) uint8
        found = {"sharpness": sharpness(pixels), "stripes": HISTOGRAM(pixels).half()}
        for name, values in {"index": batch["index"], "role": batch["role"], **found}.items():
            self._collected[name].append(values)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._rows = gather_rows(trainer, self._collected)
        self._collected.clear()
        self._images = data_of(trainer).eval_split("test").take(self._rows["index"].numpy())
        super().on_test_epoch_end(trainer, pl_module)

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        images, rows, ids = self._images, self._rows, evaluation.embeddings
        of = {role: rows["role"] == number for number, role in enumerate(ROLES)}
        if images is None or int(of["query"].sum()) != len(ids.query):
            return  # queries are tracklets
        stripes = rows["stripes"].float().unflatten(1, (STRIPES, -1))  # (N, stripes, bins)
        sides = stripes[of["query"]], stripes[of["gallery"]], ids.query, ids.gallery
        values = {
            "size": image_sizes(images.take(of["query"].numpy())),
            "sharpness": rows["sharpness"][of["query"]].double().numpy(),
            "occlusion": occlusion(*sides, evaluation.protocol.hidden),
        }
        exit = model.exit_names[-1]
        for condition, found in values.items():
            results.conditions += accuracy_by_quartile(evaluation, exit, condition, found)


def image_sizes(images: Split) -> Floats:
    """(N,) number of pixels of each image: of its box, or of the whole file."""
    if images.boxes is not None:
        left, top, right, bottom = images.boxes.T.astype(np.float64)
        result: Floats = (right - left) * (bottom - top)
        return result
    return np.array([float(np.prod(read_size(images.path(i)))) for i in range(len(images))])


def sharpness(pixels: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> (N,) variance of the Laplacian of the grey image."""
    grey = (pixels * pixels.new_tensor(LUMA, dtype=torch.float32).view(3, 1, 1)).sum(1, True)
    kernel = torch.tensor(LAPLACIAN, device=pixels.device).view(1, 1, 3, 3)
    return conv2d(grey, kernel).flatten(1).var(1)


def occlusion(
    query: Tensor, gallery: Tensor, query_ids: Ids, gallery_ids: Ids, hidden: Hidden
) -> Floats:
    """Estimate how much of each query is covered, by the colours of horizontal stripes.

    Each stripe is compared with the same stripe of the person's visible gallery images; the best
    similarity counts. The estimate is the difference of the median and the worst stripe: an object
    in front of the person changes some stripes, light and camera change all. A bag or another crop
    raises it, too.

    Args:
        query, gallery: (Q, stripes, bins) and (G, stripes, bins), square roots of histograms.

    Returns:
        (Q,) from 0 to 1; nan without a visible image.
    """
    found = np.full(len(query_ids), np.nan)
    for pid in query_ids.pids[query_ids.pids > DISTRACTOR].unique().tolist():
        rows = (query_ids.pids == pid).nonzero().flatten()
        shown = (gallery_ids.pids == pid).nonzero().flatten()
        unseen = hidden_mask(query_ids.take(rows), gallery_ids.take(shown), hidden)  # (q, g)
        alike = STRIPES * torch.einsum("qsb,gsb->qgs", query[rows], gallery[shown])
        alike = alike.masked_fill(unseen[:, :, None], -torch.inf)
        if len(shown):
            best = alike.amax(1).clamp(max=1).double()  # (q, stripes)
            gap = best.quantile(0.5, 1) - best.amin(1)
            found[rows.numpy()] = torch.where(unseen.all(1), torch.nan, gap).numpy()
    return found


def accuracy_by_quartile(
    evaluation: Evaluation, exit: str, condition: str, values: Floats
) -> Iterator[ConditionRow]:
    """One row per quartile of `values` (Q,) over the answerable queries."""
    ranking = evaluation.rankings[exit]
    known = ranking.answerable.any(0).numpy() & np.isfinite(values)
    if len(np.unique(values[known])) < 2:
        return
    edges = np.quantile(values[known], QUARTILES)
    part = np.searchsorted(edges, values)  # equal values are in one part
    for number in range(len(QUARTILES) + 1):
        rows = np.flatnonzero(known & (part == number))
        if not len(rows):
            continue
        some = torch.from_numpy(rows)
        mine, pids = ranking.take(some), evaluation.embeddings.query.pids[some]
        yield ConditionRow(
            exit=exit,
            condition=condition,
            part=number + 1,
            low=float(values[rows].min()),
            high=float(values[rows].max()),
            queries=len(rows),
            rank1=mine.rank1,
            mAP=mine.mAP,
            **bootstrap(mine, pids),
        )
