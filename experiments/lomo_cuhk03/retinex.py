"""XQDA on CUHK03: readings of Retinex by length of the descriptors by regulariser, and the release.

python -m experiments.lomo_cuhk03.retinex .../cuhk03-np/detected --features FOLDER

A variant is chosen on held-out training people: the metric is learned on half of the 767, and ranks
the other half (`held out 0`) and the test split (`test by half 0`), which chooses nothing. With
--full it is also learned on all 767 (`test`), at eight times the cost. Writes retinex.csv, one row
after the other; a second start computes the rows that are missing. A regulariser that leaves no
direction has a row without accuracies.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.lomo_cuhk03.features import cuhk03, features, held_out_half
from reid_lab.classical import Subspace
from reid_lab.classical.pairs import PairMoments, PairsError, pair_moments
from reid_lab.classical.retinex import READINGS, Reading
from reid_lab.classical.xqda import Solver, solve
from reid_lab.dataset import Split
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


REGULARISERS = (1e-3, 1e-4)
RELEASE = [
    Variant("unit", 1e-3, "svd", "halves"),
    Variant("unit", 1e-3, "svd", "cameras"),
    Variant("unit", 1e-3, "eigen", "halves"),
    Variant("sqrt3", 1e-3, "svd", "cameras"),
]


@dataclass(frozen=True)
class Ranked:
    """Images that a metric ranks: the rows (N, D) of queries, then gallery."""

    part: str
    rows: torch.Tensor
    query: Split
    gallery: Split


@dataclass(frozen=True)
class Trial:
    """Training images in their space, and what is ranked by a metric learned on them."""

    space: Subspace
    train: Split
    ranked: tuple[Ranked, ...]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lomo_cuhk03.retinex")
    parser.add_argument("root", type=Path)
    parser.add_argument("--features", type=Path, required=True, help="folder, a cache")
    parser.add_argument("--seeds", type=int, default=1, help="held-out halves")
    parser.add_argument("--held-out-only", action="store_true", help="not the test split")
    parser.add_argument("--full", action="store_true", help="also learn on all training people")
    parser.add_argument("--readings", nargs="+", choices=READINGS, default=READINGS)
    parser.add_argument("--regularisers", type=float, nargs="+", default=REGULARISERS)
    parser.add_argument("--release", action="store_true", help="also its SVD and its two views")
    args = parser.parse_args()
    print(f"commit {COMMIT}; {machine()}; torch {torch.__version__}", flush=True)
    data = cuhk03(args.root)
    variants = [Variant(length, r) for r in args.regularisers for length in LENGTHS]
    variants += RELEASE if args.release else []
    for reading in args.readings:
        rows = features(data, "train", args.features, reading)
        query, gallery = data.splits("test")
        test = []
        if not args.held_out_only:
            of_test = features(data, "test", args.features, reading)
            test = [Ranked("test", of_test, query, gallery)]
        for seed in range(args.seeds):
            report(halves(data.train_split, rows, seed, test), reading, variants)
        if args.full:
            trial = Trial(Subspace.of(rows), data.train_split, tuple(test))
            report(trial, reading, variants)


def halves(train: Split, rows: torch.Tensor, seed: int, test: list[Ranked]) -> Trial:
    in_half, query, gallery = held_out_half(train, seed)
    others = rows[torch.from_numpy(np.concatenate([query.tracks, gallery.tracks]))]
    held_out = Ranked(f"held out {seed}", others, query, gallery)
    space = Subspace.of(rows[torch.from_numpy(in_half)])
    by_half = [replace(part, part=f"test by half {seed}") for part in test]
    return Trial(space, train.take(in_half), (held_out, *by_half))


def report(trial: Trial, reading: Reading, variants: list[Variant]) -> None:
    """Append the rows of the variants that the table lacks."""
    moments: dict[str, PairMoments] = {}
    for variant in variants:
        keys = [{"part": x.part, "retinex": reading, **vars(variant)} for x in trial.ranked]
        missing = [not any(matches(row, key) for row in table()) for key in keys]
        if not any(missing):
            continue
        if variant.views not in moments:
            moments[variant.views] = moments_of(trial, variant.views)
        found = accuracies(trial, moments[variant.views], variant)
        rows = [{**k, **row, "commit": COMMIT} for k, row in zip(keys, found, strict=True)]
        rows = list(compress(rows, missing))
        print(*rows, sep="\n", flush=True)
        write_csv(TABLE, [*table(), *rows])


def matches(row: dict[str, str], key: dict[str, Any]) -> bool:
    return all(row[name] == str(value) for name, value in key.items())


def moments_of(trial: Trial, views: str) -> PairMoments:
    pids, camids = torch.from_numpy(trial.train.pids), torch.from_numpy(trial.train.camids)
    if views == "halves":
        order = np.random.default_rng(0).permutation(len(camids))
        camids = torch.from_numpy(order % 2)
    return pair_moments(trial.space.coordinates, pids, camids)


def accuracies(trial: Trial, moments: PairMoments, variant: Variant) -> list[dict[str, Any]]:
    regulariser = variant.regulariser * LENGTHS[variant.length]
    try:
        directions, signs = solve(moments, None, regulariser, variant.solver)
    except PairsError as error:
        print(error, flush=True)
        return [{"dim": 0, "negative": 0, **dict.fromkeys(METRICS, "")} for _ in trial.ranked]
    projection = trial.space.back(directions)
    found = []
    for part in trial.ranked:
        q, g = (part.rows @ projection).split([len(part.query), len(part.gallery)])
        ids = Ids.of(part.query), Ids.of(part.gallery)
        summary = rank(q, g, *ids, Mahalanobis(None, signs)).summary()
        kept = {"dim": len(signs), "negative": int((signs < 0).sum())}
        found.append({**kept, **{name: summary[name] for name in METRICS}})
    return found


def table() -> list[dict[str, str]]:
    if not TABLE.is_file():
        return []
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
