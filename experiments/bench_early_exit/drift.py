"""Planned against realised on real embeddings, in a steady order and in sorted ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.bench_early_exit.models import Network
from reid_lab.budget.mul_adds import count_exits
from reid_lab.budget.sweep import stream_sweep
from reid_lab.budget.thresholds import calibrate
from reid_lab.dataset import Split, read_layout
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.transforms import normalise
from reid_lab.retrieval import Embeddings, Evaluation, Exit, Ids, evaluate

BATCH = 128
BUDGETS = 9
POLICIES = ("random", "distance", "margin", "entropy", "learned")


def drift(network: Network, root: Path, seed: int) -> list[dict[str, Any]]:
    """A row a policy, rule and order: how far the cost strays from the plan, and Rank-1.

    Half of the test people, drawn by `seed`, fit the thresholds; the others come as queries.
    """
    fitted, asked = halves(network, root, seed)
    exits = network.model.stream_exits
    known = calibrate(fitted, exits)
    costs = [asked.mul_adds[name] for name in exits]
    rows = stream_sweep(
        asked,
        exits,
        POLICIES,  # type: ignore[arg-type]
        np.linspace(costs[0], costs[-1], BUDGETS + 2)[1:-1].tolist(),
        seed=seed,
        calibration=known,
        thresholds=("online", "steered", "fitted"),
        orders=("shuffled", "by_identity", "by_camera"),
    )
    return list(_summary(rows))


def _summary(rows: Sequence[dict[str, Any]]) -> Any:
    kinds = dict.fromkeys((r["policy"].split(" (")[0], r["thresholds"], r["order"]) for r in rows)
    for policy, how, order in kinds:
        mine = [
            r
            for r in rows
            if (r["policy"].split(" (")[0], r["thresholds"], r["order"]) == (policy, how, order)
        ]
        off = np.abs([r["realised"] / r["planned"] - 1 for r in mine])
        yield {
            "policy": policy,
            "thresholds": how,
            "order": order,
            "mean_off": float(off.mean()),
            "worst_off": float(off.max()),
            "rank1": float(np.mean([r["rank1"] for r in mine])),
        }


def halves(network: Network, root: Path, seed: int) -> tuple[Evaluation, Evaluation]:
    benchmark = read_layout(root, name="people")
    costs = count_exits(network.model, *network.size)
    query, gallery = benchmark.query, benchmark.gallery
    q, g = embedded(network, query), embedded(network, gallery)
    people = np.random.default_rng(seed).permutation(query.identities)
    first = people[: len(people) // 2]
    found = []
    for inside in (True, False):
        mine = [np.isin(s.pids, first) == inside for s in (query, gallery)]
        # distractors and junk are nobody's: each half has its own
        nobody = (gallery.pids <= 0) & (np.arange(len(gallery)) % 2 == int(inside))
        mine[1] = (mine[1] & (gallery.pids > 0)) | nobody
        rows = [torch.from_numpy(np.flatnonzero(m)) for m in mine]
        exits = {n: Exit(q[n][rows[0]], g[n][rows[1]], costs[n]) for n in costs}
        ids = [Ids.of(s.take(r.numpy())) for s, r in zip((query, gallery), rows, strict=True)]
        found.append(evaluate(Embeddings(ids[0], ids[1], exits)))
    return found[0], found[1]


@torch.inference_mode()
def embedded(network: Network, split: Split) -> dict[str, torch.Tensor]:
    """Exit -> (N, D)."""
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in network.model.exit_names}
    for start in range(0, len(split), BATCH):
        numbers = range(start, min(start + BATCH, len(split)))
        pixels = np.stack([resize(decode(split.path(i)), *network.size) for i in numbers])
        for name, rows in network.model(normalise(_channels_first(pixels))).items():
            parts[name].append(rows)
    return {name: torch.cat(rows) for name, rows in parts.items()}


def _channels_first(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
