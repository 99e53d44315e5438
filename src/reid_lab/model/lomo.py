"""LOMO features with the metrics KISSME and XQDA: the classical baseline."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_lab.classical import Lomo, PairsError, Subspace, kissme, pair_counts, xqda
from reid_lab.classical.retinex import Reading
from reid_lab.classical.xqda import Solver
from reid_lab.dataset import Split
from reid_lab.dataset.datamodule import data_of
from reid_lab.dataset.transforms import denormalise
from reid_lab.model.base import DivergedError, ReidModule, State
from reid_lab.protocol import DISTRACTOR
from reid_lab.types import Count, Positive, Units

log = logging.getLogger(__name__)


class Projection(nn.Module):
    """Rows (N, D) @ `factor` (D, d); d is read from a checkpoint.

    `signs` (d,): 1, or -1 for negative directions of a metric; older checkpoints have none.
    """

    factor: Tensor
    signs: Tensor

    def __init__(self, features: int, dim: int, sign: int) -> None:
        super().__init__()
        self.register_buffer("factor", torch.zeros(features, dim))
        self.register_buffer("signs", torch.full((dim,), float(sign)))

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.factor

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        given = state_dict.get(f"{prefix}factor")
        if given is not None and given.shape[:-1] == self.factor.shape[:-1]:
            self.factor = self.factor.new_empty(given.shape)
            signs = state_dict.setdefault(f"{prefix}signs", torch.ones(given.shape[1]))
            self.signs = self.signs.new_empty(signs.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class LOMO(ReidModule):
    """Hand-crafted features, and two metrics learned on them in closed form.

    Exits: `lomo`, the features themselves; `kissme` and `xqda`, projected so that Euclidean
    distance is the learned one, up to the signs of directions (see `exit_signs`): `kissme`'s where
    they are not clipped, `xqda`'s where it is solved as in the release. Costs are cumulative: that
    of `xqda` includes `kissme`'s projection, which it does not need. See `reid_lab.classical`.

    Training is a single iteration: one pass over the unaugmented training images, then the two
    metrics. The training batch is not used.

    Args:
        retinex: variant of LOMO's colour correction, see `reid_lab.classical.retinex`.
        kissme_pca: most dimensions that PCA keeps for KISSME (distillation paper, section 4.3).
        kissme_clip: remove the metric's negative directions, so that the exit's Euclidean distance
            is the learned one, as galleries, exports, streams and verification require. It ranks
            worse; see `kissme`.
        xqda_dim: dimensions of XQDA's subspace; null keeps all whose eigenvalue is above 1, and
            more than these are never kept. Until it is fitted, null counts as `kissme_pca`.
        xqda_solver: "eigen", as in the paper, or "svd", as in the authors' release; see `xqda`.
        regulariser: on the diagonal of XQDA's covariance of one person's differences
            (LOMO, section 4.3). Descriptors have the length sqrt(3); 3e-3 has the effect of 1e-3 on
            descriptors of unit length.
        iterations: training steps; the fit is closed-form, so that one is enough.

    Raises:
        PairsError: on training: no person is seen by two cameras, or several processes train.
    """

    exit_names = ("lomo", "kissme", "xqda")

    def __init__(
        self,
        retinex: Reading = "deviations",
        kissme_pca: Units = 200,
        kissme_clip: bool = False,
        xqda_dim: Units | None = None,
        xqda_solver: Solver = "eigen",
        regulariser: Positive = 1e-3,
        iterations: Count = 1,
    ) -> None:
        super().__init__()
        self.kissme_pca, self.kissme_clip = kissme_pca, kissme_clip
        self.xqda_dim, self.xqda_solver, self.regulariser = xqda_dim, xqda_solver, regulariser
        self.features = Lomo(retinex)
        self.kissme = Projection(self.features.dim, kissme_pca, 1 if kissme_clip else -1)
        xqda_sign = 1 if xqda_solver == "eigen" else -1
        self.xqda = Projection(self.features.dim, xqda_dim or kissme_pca, xqda_sign)

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        (rows,) = state  # the images (N, 3, H, W) at first, then the features (N, 26960)
        with torch.autocast(rows.device.type, enabled=False):
            if exit == "lomo":
                rows = self.features(denormalise(rows.float()))
                return (rows,), rows
            projection = self.kissme if exit == "kissme" else self.xqda
            return (rows,), projection(rows)

    @property
    def exit_signs(self) -> dict[str, Tensor]:
        signs = {"kissme": self.kissme.signs, "xqda": self.xqda.signs}
        return {name: values for name, values in signs.items() if bool((values < 0).any())}

    @property
    def stream_exits(self) -> tuple[str, ...]:
        return tuple(name for name in self.exit_names if name not in self.exit_signs)

    def estimated_mul_adds(self, height: int, width: int) -> dict[str, int]:
        """Exit -> cumulative Mul-Adds of the parts that are not matrix products; see `Lomo`."""
        return dict.fromkeys(self.exit_names, self.features.estimated_mul_adds(height, width))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}  # closed form

    def configure_optimizers(self) -> None:
        return None

    def setup(self, stage: str) -> None:
        """Check that the metrics can be fitted, before the first image is read."""
        if stage != "fit":
            return
        if self.trainer.world_size > 1:
            raise PairsError(
                f"LOMO is fitted by one process, {self.trainer.world_size} were given: "
                "use trainer.devices=1"
            )
        pair_counts(*_people(data_of(self.trainer).train_split)[1:])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # type: ignore[override]
        """Fit both metrics on the whole training split."""
        started = time.perf_counter()
        rows = self._training_features()
        log.info("%d images described in %.1f s", len(rows), time.perf_counter() - started)
        self.fit(rows, data_of(self.trainer).train_split)

    def fit(self, rows: Tensor, split: Split) -> None:
        """Learn both metrics from features (N, 26960) of the split's N images.

        Raises:
            PairsError: no person is seen by two cameras.
            DivergedError: the covariances are too close to singular.
        """
        people, pids, camids = _people(split)
        if len(people) < len(rows):
            rows = rows[people]
        started = time.perf_counter()
        space = Subspace.of(rows)
        device = self.kissme.factor.device
        try:
            learned = (
                kissme(space, pids, camids, self.kissme_pca, self.kissme_clip),
                xqda(space, pids, camids, self.xqda_dim, self.regulariser, self.xqda_solver),
            )
        except torch.linalg.LinAlgError as error:
            raise self._singular(str(error)) from error
        for projection, parts in zip((self.kissme, self.xqda), learned, strict=True):
            projection.factor, projection.signs = (part.to(device) for part in parts)
        if not all(bool(p.factor.isfinite().all()) for p in (self.kissme, self.xqda)):
            raise self._singular("the metrics are not finite")
        log.info(
            "metrics learned on %d images in %.1f s; dimensions kept: KISSME %d, XQDA %d",
            len(rows),
            time.perf_counter() - started,
            self.kissme.factor.shape[1],
            self.xqda.factor.shape[1],
        )

    def _singular(self, why: str) -> DivergedError:
        return DivergedError(
            f"the metrics cannot be solved for ({why}): raise model.regulariser, now "
            f"{self.regulariser:g}, or lower model.kissme_pca, now {self.kissme_pca}"
        )

    def _training_features(self) -> Tensor:
        """(N, 26960) float32 on the CPU, in the order of the training split."""
        data = data_of(self.trainer)
        rows = torch.empty(len(data.train_split), self.features.dim)
        for batch in data.train_images_loader():
            there = {name: values.to(self.device) for name, values in batch.items()}
            pixels = data.pixels(there)  # (N, views, 3, H, W)
            described = self.features(pixels.flatten(0, 1)).view(*pixels.shape[:2], -1).mean(1)
            rows[batch["index"]] = described.cpu()
        return rows


def _people(split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the split's people, without distractors and junk; their pids and camids."""
    people = np.flatnonzero(split.pids > DISTRACTOR)
    indices, pids, camids = map(
        torch.from_numpy, (people, split.pids[people], split.camids[people])
    )
    return indices, pids, camids
