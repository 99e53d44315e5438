"""Principal components of embeddings, fitted on training images. PLA, section 4.2."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.retrieval.checks import as_rows, check_rows
from reid_lab.retrieval.embeddings import Embeddings
from reid_lab.retrieval.space import full_precision


@dataclass(frozen=True)
class PCA:
    """(x - `mean` (D,)) @ `components` (D, d), the directions of largest variance first.

    `variances` (d,) float64: variance of the fitted rows along each, descending.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    @staticmethod
    def fit(rows: Tensor | np.ndarray) -> PCA:
        """Fit all min(N - 1, D) directions of `rows` (N, D), in float64.

        Raises:
            UserError: fewer than two rows, or rows that are not finite.
        """
        rows = as_rows("training", rows).cpu()
        if len(rows) < 2:
            raise UserError(f"{len(rows)} rows have no principal components: give two or more")
        check_rows("training", rows, zeros_allowed=True)
        mean = rows.double().mean(0)
        covariance = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
        for part in rows.split(4096):  # float64 copies of a part at a time
            centred = part.double() - mean
            covariance += centred.T @ centred
        values, vectors = torch.linalg.eigh(covariance / (len(rows) - 1))
        kept = min(len(rows) - 1, rows.shape[1])
        vectors, values = vectors.flip(1)[:, :kept], values.flip(0)[:kept].clamp(min=0)
        # the sign of an eigenvector is free: its largest entry is positive
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        return PCA(mean.float(), (vectors * largest.sign()).float(), values)

    def keep(self, dim: int) -> PCA:
        """The first `dim` directions.

        Raises:
            UserError: there are fewer.
        """
        if not 0 < dim <= len(self.variances):
            raise UserError(
                f"pca={dim}, but the training embeddings have {len(self.variances)} principal "
                "components (the smaller of D and N - 1): set at most that many"
            )
        return replace(self, components=self.components[:, :dim], variances=self.variances[:dim])

    def whiten(self) -> PCA:
        """Scale every direction to unit variance; directions without variance are unchanged.

        A direction has none if its standard deviation is rounding noise: at most D float32 epsilons
        of the largest one, or of the largest entry of the mean.
        """
        noise = len(self.mean) * torch.finfo(torch.float32).eps
        size = torch.maximum(self.variances.double().max(), self.mean.double().square().max())
        varies = self.variances > noise**2 * size
        scale = torch.where(varies, self.variances, 1.0).double().rsqrt()
        return replace(self, components=(self.components * scale).float())

    def __call__(self, rows: Tensor | np.ndarray) -> Tensor:
        """(N, D) -> (N, d) float32."""
        rows = as_rows("projected", rows).float()
        with full_precision():
            return (rows - self.mean.to(rows)) @ self.components.to(rows)


def project(embeddings: Embeddings, projections: dict[str, PCA]) -> Embeddings:
    """Project the embeddings of the exits in `projections`; costs stay unchanged."""
    exits = dict(embeddings.exits)
    for name, pca in projections.items():
        e = exits[name]
        more = None if e.multi_query is None else pca(e.multi_query)
        exits[name] = replace(e, query=pca(e.query), gallery=pca(e.gallery), multi_query=more)
    return replace(embeddings, exits=exits)
