"""Compare KISSME with and without its negative directions on held-out training people.

python -m experiments.lomo_cuhk03 .../cuhk03-np/detected [--splits 10] [--features FOLDER]

Each split divides the training people into halves by its seed: the metric is learned on one half
and ranks the other. The test split is not used. Writes kissme.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from experiments.lomo_cuhk03.features import cuhk03, features, held_out_half
from reid_lab.classical import Subspace, kissme
from reid_lab.dataset import Split
from reid_lab.files.tables import write_csv
from reid_lab.results.provenance import commit, machine
from reid_lab.retrieval import Ids, Mahalanobis, rank

DIMENSIONS = (34, 100, 200)  # of PCA: as published for VIPeR, one in between, as in the model
METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP")
FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lomo_cuhk03")
    parser.add_argument("root", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--features", type=Path, help="folder, a cache")
    args = parser.parse_args()
    data = cuhk03(args.root)
    rows = features(data, "train", args.features)
    results = [row for seed in range(args.splits) for row in study(data.train_split, rows, seed)]
    write_csv(FOLDER / "kissme.csv", results)
    print(f"{machine()}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"commit {commit()}; splits by seeds 0 to {args.splits - 1}")
    print("\n".join(table(results)))


def study(train: Split, rows: torch.Tensor, seed: int) -> Iterator[dict[str, object]]:
    """Accuracies of one split: clipped and not clipped, at each number of dimensions."""
    in_half, query, gallery = held_out_half(train, seed)
    space = Subspace.of(rows[torch.from_numpy(in_half)])
    pids, camids = (torch.from_numpy(x[in_half]) for x in (train.pids, train.camids))
    for pca in DIMENSIONS:
        projection, signs = kissme(space, pids, camids, pca)  # positive directions first
        q, g = (rows[torch.from_numpy(x.tracks)] @ projection for x in (query, gallery))
        for clip in (True, False):
            dim = int((signs > 0).sum()) if clip else len(signs)
            metric = Mahalanobis(None, signs[:dim])
            ids_q, ids_g = Ids.of(query), Ids.of(gallery)
            summary = rank(q[:, :dim], g[:, :dim], ids_q, ids_g, metric).summary()
            accuracies = {name: summary[name] for name in METRICS}
            yield {"seed": seed, "pca": pca, "clip": clip, "dim": dim, **accuracies}


def table(results: list[dict[str, object]]) -> Iterator[str]:
    """Markdown rows: means over the splits; mean and standard deviation of the differences."""
    for pca in DIMENSIONS:
        means = {}
        for clip in (True, False):
            group = [row for row in results if (row["pca"], row["clip"]) == (pca, clip)]
            means[clip] = 100 * np.array([[row[name] for name in METRICS] for row in group], float)
            yield line(f"PCA {pca}, {'clipped' if clip else 'not clipped'}", means[clip].mean(0))
        differences = means[False] - means[True]
        cells = zip(differences.mean(0), differences.std(0, ddof=1), strict=True)
        yield f"| difference | {' | '.join(f'{mean:+.1f} ± {std:.1f}' for mean, std in cells)} |"


def line(name: str, values: np.ndarray) -> str:
    return f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |"


if __name__ == "__main__":
    main()
