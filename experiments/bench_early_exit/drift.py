"""Planned and realised cost of budgeted streams, in shuffled and in sorted query order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.bench_early_exit.models import BenchNetwork
from reid_lab.budget.exit_calibration import fit_exit_calibration
from reid_lab.budget.sweep import stream_sweep
from reid_lab.cost.mul_adds import count_exits
from reid_lab.dataset import Split, read_layout
from reid_lab.dataset.images import decode, resize
from reid_lab.dataset.transforms import normalise
from reid_lab.retrieval import Embeddings, Evaluation, Exit, Ids, evaluate

BATCH = 128
BUDGETS = 9
POLICIES = ("geometric", "distance", "margin", "entropy", "learned")


def drift(network: BenchNetwork, root: Path, seed: int) -> list[dict[str, Any]]:
    """Deviation of the cost from the plan, and Rank-1, per policy, thresholds and order.

    The thresholds are fitted on one half of the test people, drawn by `seed`; the queries are of
    the other half.
    """
    fitting, testing = halves(network, root, seed)
    exits = network.model.stream_exits
    exit_calibration = fit_exit_calibration(fitting, exits)
    costs = [testing.mul_adds[name] for name in exits]
    swept = stream_sweep(
        testing,
        exits,
        POLICIES,  # type: ignore[arg-type]
        np.linspace(costs[0], costs[-1], BUDGETS + 2)[1:-1].tolist(),
        seed=seed,
        exit_calibration=exit_calibration,
        thresholds=("online", "steered", "fitted"),
        orders=("shuffled", "by_identity", "by_camera"),
    )
    return list(_summary(swept.rows))


def _summary(rows: Sequence[dict[str, Any]]) -> Any:
    kinds = dict.fromkeys((r["policy"], r["thresholds"], r["order"]) for r in rows)
    for policy, thresholds, order in kinds:
        group = [
            r
            for r in rows
            if (r["policy"], r["thresholds"], r["order"]) == (policy, thresholds, order)
        ]
        deviation = np.abs([r["realised"] / r["planned"] - 1 for r in group])
        yield {
            "policy": policy,
            "thresholds": thresholds,
            "order": order,
            "mean_off": float(deviation.mean()),
            "worst_off": float(deviation.max()),
            "rank1": float(np.mean([r["rank1"] for r in group])),
        }


def halves(network: BenchNetwork, root: Path, seed: int) -> tuple[Evaluation, Evaluation]:
    """Evaluations of the two halves of the test people; each has half of the distractors."""
    benchmark = read_layout(root, name="people")
    costs = count_exits(network.model, *network.size)
    query, gallery = benchmark.query, benchmark.gallery
    q, g = embedded(network, query), embedded(network, gallery)
    people = np.random.default_rng(seed).permutation(query.identities)
    first = people[: len(people) // 2]
    evaluations = []
    for inside in (True, False):
        masks = [np.isin(s.pids, first) == inside for s in (query, gallery)]
        # distractors and junk have no person: every other image goes to each half
        unknown = (gallery.pids <= 0) & (np.arange(len(gallery)) % 2 == int(inside))
        masks[1] = (masks[1] & (gallery.pids > 0)) | unknown
        rows = [torch.from_numpy(np.flatnonzero(mask)) for mask in masks]
        exits = {n: Exit(q[n][rows[0]], g[n][rows[1]], costs[n]) for n in costs}
        ids = [Ids.of(s.take(r.numpy())) for s, r in zip((query, gallery), rows, strict=True)]
        evaluations.append(evaluate(Embeddings(ids[0], ids[1], exits)))
    return evaluations[0], evaluations[1]


@torch.inference_mode()
def embedded(network: BenchNetwork, split: Split) -> dict[str, torch.Tensor]:
    """Exit -> embeddings (N, D) of the split's images."""
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in network.model.exit_names}
    for start in range(0, len(split), BATCH):
        numbers = range(start, min(start + BATCH, len(split)))
        pixels = np.stack([resize(decode(split.path(i)), *network.size) for i in numbers])
        for name, rows in network.model(normalise(_channels_first(pixels))).items():
            parts[name].append(rows)
    return {name: torch.cat(rows) for name, rows in parts.items()}


def _channels_first(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
