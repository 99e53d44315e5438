"""XQDA on CUHK03: readings of Retinex by length of the descriptors by regulariser, and the release.

python -m experiments.lomo_cuhk03.retinex .../cuhk03-np/detected --features FOLDER

A variant is chosen on held-out training people: the metric is learned on half of the 767, and ranks
the other half. The test split is reported for all variants, and chooses nothing. Writes
retinex.csv, one row after the other; a second start computes the rows that are missing.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.lomo_cuhk03.features import cuhk03, features, held_out_half
from reid_lab.classical import Subspace
from reid_lab.classical.pairs import PairMoments, PairsError, pair_moments
from reid_lab.classical.retinex import READINGS, Reading
from reid_lab.classical.xqda import Solver, solve
from reid_lab.dataset import ReidDataModule, Split
from reid_lab.files.atomic import replacing
from reid_lab.files.tables import write_csv
from reid_lab.results.provenance import commit, machine
from reid_lab.retrieval import Ids, Mahalanobis, rank

LENGTHS = {"sqrt3": 1, "unit": 3}  # of descriptors; the regulariser for LOMO's of length sqrt(3)
METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mAP_trapezoid")
COMMIT = commit()
TABLE = Path(__file__).parent / "retinex.csv"


@dataclass(frozen=True)
class Variant:
    """How a metric is learned.

    Attributes:
        views: pairs of images from different `cameras`, or from random `halves` of the images, as
            the published scripts take them.
    """

    length: str
    regulariser: float
    solver: Solver = "eigen"
    views: str = "cameras"


REGULARISERS = (1e-3, 1e-4, 1e-2)
RELEASE = [
    Variant("unit", 1e-3, "svd", "halves"),
    Variant("unit", 1e-3, "svd", "cameras"),
    Variant("unit", 1e-3, "eigen", "halves"),
    Variant("sqrt3", 1e-3, "svd", "cameras"),
]


@dataclass(frozen=True)
class Trial:
    """A training set, and the images that its metrics rank.

    Attributes:
        space: of the training images.
        test: their queries and gallery, (N, D).
    """

    space: Subspace
    train: Split
    test: torch.Tensor
    query: Split
    gallery: Split


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lomo_cuhk03.retinex")
    parser.add_argument("root", type=Path)
    parser.add_argument("--features", type=Path, required=True, help="folder, a cache")
    parser.add_argument("--seeds", type=int, default=2, help="held-out halves")
    parser.add_argument("--readings", nargs="+", choices=READINGS, default=READINGS)
    parser.add_argument("--regularisers", type=float, nargs="+", default=REGULARISERS)
    parser.add_argument("--release", action="store_true", help="also its SVD and its two views")
    args = parser.parse_args()
    print(f"commit {COMMIT}; {machine()}; torch {torch.__version__}", flush=True)
    data = cuhk03(args.root)
    variants = [Variant(length, r) for r in args.regularisers for length in LENGTHS]
    variants += RELEASE if args.release else []
    for reading in args.readings:
        whole = span(data, reading, args.features)
        for seed in range(args.seeds):
            report(halves(data.train_split, whole, seed), f"held out {seed}", reading, variants)
        report(test(data, reading, whole, args.features), "test", reading, variants)


def span(data: ReidDataModule, reading: Reading, folder: Path) -> torch.Tensor:
    """(N, N) coordinates of all training images in their span, of the features' distances."""
    cached = folder / f"span_{reading}.npy"
    if not cached.is_file():
        rows = features(data, "train", folder, reading)
        with replacing(cached) as beside, beside.open("wb") as file:
            np.save(file, Subspace.of(rows).coordinates.numpy())
    return torch.from_numpy(np.load(cached))


def halves(train: Split, whole: torch.Tensor, seed: int) -> Trial:
    in_half, query, gallery = held_out_half(train, seed)
    rows = whole.float()
    test = rows[torch.from_numpy(np.concatenate([query.tracks, gallery.tracks]))]
    return Trial(
        Subspace.of(rows[torch.from_numpy(in_half)]), train.take(in_half), test, query, gallery
    )


def test(data: ReidDataModule, reading: Reading, whole: torch.Tensor, folder: Path) -> Trial:
    train, (query, gallery) = data.train_split, data.splits("test")
    space = Subspace(features(data, "train", folder, reading), whole)
    return Trial(space, train, features(data, "test", folder, reading), query, gallery)


def report(trial: Trial, part: str, reading: Reading, variants: list[Variant]) -> None:
    """Append the rows of the variants that the table lacks."""
    moments: dict[str, PairMoments] = {}
    for variant in variants:
        key = {"part": part, "retinex": reading, **vars(variant)}
        if any(all(row[k] == str(v) for k, v in key.items()) for row in table()):
            continue
        if variant.views not in moments:
            moments[variant.views] = moments_of(trial, variant.views)
        row = {**key, **accuracy(trial, moments[variant.views], variant)}
        print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        write_csv(TABLE, [*table(), {**row, "commit": COMMIT}])


def moments_of(trial: Trial, views: str) -> PairMoments:
    pids, camids = torch.from_numpy(trial.train.pids), torch.from_numpy(trial.train.camids)
    if views == "halves":
        order = np.random.default_rng(0).permutation(len(camids))
        camids = torch.from_numpy(order % 2)
    return pair_moments(trial.space.coordinates, pids, camids)


def accuracy(trial: Trial, moments: PairMoments, variant: Variant) -> dict[str, Any]:
    regulariser = variant.regulariser * LENGTHS[variant.length]
    try:
        directions, signs = solve(moments, None, regulariser, variant.solver)
    except PairsError:  # no direction is left
        return {"dim": 0, "negative": 0, **dict.fromkeys(METRICS, 0.0)}
    rows = trial.test @ trial.space.back(directions)
    q, g = rows.split([len(trial.query), len(trial.gallery)])
    ranking = rank(q, g, Ids.of(trial.query), Ids.of(trial.gallery), Mahalanobis(None, signs))
    summary = ranking.summary()
    negative = int((signs < 0).sum())
    return {"dim": len(signs), "negative": negative, **{name: summary[name] for name in METRICS}}


def table() -> list[dict[str, str]]:
    if not TABLE.is_file():
        return []
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
