"""The affine map from one embedding to another that is nearest on people it has not seen."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_lab.errors import UserError

WEIGHTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 5


def ridge(rows: Tensor, targets: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression from `rows` (N, d) to `targets` (N, D), in float64 on the CPU.

    Its weight, in mean variances of a column of `rows`, is the one of `WEIGHTS` with the least
    squared error on held-out people (`FOLDS` folds). What is predicted of them varies less than
    the targets, so that a query would be near to everyone around the mean: the map is scaled about
    the mean until their predictions vary as much as the targets.

    Args:
        pids: (N,) of the people, two or more.

    Returns:
        Matrix (D, d) and shift (D,), float32, as of `nn.Linear`.

    Raises:
        UserError: there is one person, of whom none can be held out.
    """
    x, y = rows.cpu().double(), targets.cpu().double()
    person = pids.cpu().unique(return_inverse=True)[1]
    people = int(person.max()) + 1 if len(person) else 0
    if people < 2:
        raise UserError(f"a map between embeddings is fitted on two people or more, not {people}")
    fold = person % min(FOLDS, people)
    tried = [_predicted(x, y, fold, weight) for weight in WEIGHTS]
    errors = [float((found - y).square().sum()) for found in tried]
    best = errors.index(min(errors))
    matrix, shift = _fit(x, y, WEIGHTS[best])
    mean = y.mean(0)
    spread, own = ((of - mean).square().sum() for of in (tried[best], y))
    scale = (own / spread).sqrt() if spread > 0 else torch.ones(())
    return (scale * matrix).float(), (mean + scale * (shift - mean)).float()


def _predicted(x: Tensor, y: Tensor, fold: Tensor, weight: float) -> Tensor:
    """(N, D) each row's prediction by the map of the other folds."""
    found = torch.empty_like(y)
    for number in fold.unique():
        held = fold == number
        matrix, shift = _fit(x[~held], y[~held], weight)
        found[held] = x[held] @ matrix.T + shift
    return found


def _fit(x: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    centre, mean = x.mean(0), y.mean(0)
    centred = x - centre
    gram = centred.T @ centred
    gram.diagonal().add_(weight * gram.trace() / len(gram) + torch.finfo(gram.dtype).tiny)
    matrix = torch.linalg.solve(gram, centred.T @ (y - mean)).T
    return matrix, mean - matrix @ centre
