"""What the replayed stream promises of the service's exits: Rank-1 by Mul-Adds; replay.csv.

    python -m experiments.bench_serve.replayed --model exported --images IMAGES \\
        --people people.sqlite --mul-adds 80e6 60e6 --out experiments/bench_serve/replay.csv

The service's queries, people, confidences and rule, in 10 random orders, one query at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench_serve.__main__ import own
from reid_lab.budget.stream import RunningQuantile, exit_probabilities, exit_shares, replay, solve_a
from reid_lab.files.tables import write_csv
from reid_lab.results.provenance import commit, machine
from reid_lab.runtime.model import Model
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import HORIZON_QUERIES, WINDOW_QUERIES

ORDERS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="with query/, as Market-1501")
    parser.add_argument("--mul-adds", type=float, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = Model(args.model, 1)
    people = People.open(args.people, model.manifest)
    paths = sorted((args.images / "query").glob("*.jpg"))
    pids, camids = zip(*(own(path) for path in paths), strict=True)
    exits = list(people.queries)
    embeddings = model.embed_files(paths, 32)
    margins = np.stack([people.margins(e, embeddings[e], camids) for e in exits])  # (S, Q)
    right = np.stack([rights(people, e, embeddings[e], pids, camids) for e in exits])
    costs = np.array([model.manifest.exit(name).mul_adds for name in exits], np.float64)
    rows = [row("last exit", costs, right, np.full((ORDERS, len(paths)), len(exits) - 1))]
    for budget in args.mul_adds:
        q = exit_probabilities(exit_shares(solve_a(costs, budget), len(costs)))
        taken = [one(margins, q, seed) for seed in range(ORDERS)]
        rows.append(row(f"{budget / 1e6:g} M", costs, right, np.stack(taken)))
    write_csv(args.out, rows)
    people.close()


def one(margins: np.ndarray, probabilities: np.ndarray, seed: int) -> np.ndarray:
    """(Q,) the exits of one order."""
    order = np.random.default_rng(seed).permutation(margins.shape[1])
    rule = RunningQuantile(probabilities, HORIZON_QUERIES, WINDOW_QUERIES)
    return replay(margins, rule, order, len(margins), seed)


def rights(
    people: People, exit: str, queries: np.ndarray, pids: Sequence[str], camids: Sequence[str]
) -> np.ndarray:
    """(Q,) whether the nearest image of another camera is of the query's person."""
    nearest = (
        people.search(people.compare(exit, query, camid), 1)[0]
        for query, camid in zip(queries, camids, strict=True)
    )
    return np.array([match.pid == pid for match, pid in zip(nearest, pids, strict=True)])


def row(arm: str, costs: np.ndarray, right: np.ndarray, exits: np.ndarray) -> dict[str, Any]:
    queries = np.arange(exits.shape[1])
    return {
        "arm": arm,
        "orders": ORDERS,
        "queries": exits.shape[1],
        "mul_adds": round(float(costs[exits].mean())),
        "rank1": round(float(np.mean([right[taken, queries].mean() for taken in exits])), 4),
        "rank1_std": round(float(np.std([right[taken, queries].mean() for taken in exits])), 4),
        "share_last": round(float((exits == len(costs) - 1).mean()), 4),
        "commit": commit(),
        "machine": machine(),
    }


if __name__ == "__main__":
    main()
