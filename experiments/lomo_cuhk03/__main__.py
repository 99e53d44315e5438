"""KISSME with and without its negative directions, on people held out of the training split.

python -m experiments.lomo_cuhk03 .../cuhk03-np/detected [--splits 10] [--features FILE.npy]

Each split deals the training people into halves by its number: a metric is learned on the one
and ranks the other. The test split is not read. Writes kissme.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from reid_lab.classical import Lomo, Subspace, kissme
from reid_lab.dataset import ReidDataModule, Split, Transforms, read_cuhk03_np
from reid_lab.dataset.splits import query_and_gallery
from reid_lab.files.tables import write_csv
from reid_lab.results.provenance import commit, machine
from reid_lab.retrieval import Ids, Mahalanobis, rank

DIMENSIONS = (34, 100, 200)  # of PCA: VIPeR's published one, one between, the model's
METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP")
FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lomo_cuhk03")
    parser.add_argument("root", type=Path)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--features", type=Path, help="kept here, and read if it is there")
    args = parser.parse_args()
    reader = partial(read_cuhk03_np, boxes="detected")
    size = Transforms(128, 48, enlarge=1, flip=0, erase=0)
    data = ReidDataModule(args.root, reader, size, batch_size=2, workers=0)
    rows = features(data, args.features)
    found = [row for seed in range(args.splits) for row in study(data.train_split, rows, seed)]
    write_csv(FOLDER / "kissme.csv", found)
    print(f"{machine()}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"commit {commit()}; splits by seeds 0 to {args.splits - 1}")
    print("\n".join(table(found)))


@torch.no_grad()
def features(data: ReidDataModule, kept: Path | None) -> torch.Tensor:
    """(N, 26960) LOMO of the training images, in their order."""
    if kept is not None and kept.is_file():
        return torch.from_numpy(np.load(kept))
    lomo = Lomo()
    rows = torch.empty(len(data.train_split), lomo.dim)
    for batch in data.train_images_loader():
        rows[batch["index"]] = lomo(batch["pixels"][:, 0])
    if kept is not None:
        np.save(kept, rows.numpy())
    return rows


def study(train: Split, rows: torch.Tensor, seed: int) -> Iterator[dict[str, object]]:
    """One split of the people: both choices at each number of dimensions."""
    people = np.random.default_rng(seed).permutation(train.identities)
    learns = np.isin(train.pids, people[: len(people) // 2])
    numbered = replace(train, tracks=np.arange(len(train)))
    query, gallery = query_and_gallery(numbered.take(~learns))
    space = Subspace.of(rows[torch.from_numpy(learns)])
    ids = [torch.from_numpy(x[learns]) for x in (train.pids, train.camids)]
    for pca in DIMENSIONS:
        projection, signs = kissme(space, *ids, pca)  # positive directions first
        asked, shown = (rows[torch.from_numpy(x.tracks)] @ projection for x in (query, gallery))
        for clip in (True, False):
            kept = int((signs > 0).sum()) if clip else len(signs)
            metric = Mahalanobis(None, signs[:kept])
            sides = asked[:, :kept], shown[:, :kept], Ids.of(query), Ids.of(gallery)
            summary = rank(*sides, metric).summary()
            accuracies = {name: summary[name] for name in METRICS}
            yield {"seed": seed, "pca": pca, "clip": clip, "dim": kept, **accuracies}


def table(found: list[dict[str, object]]) -> Iterator[str]:
    """Means over the splits, and of their differences, with the deviation of these."""
    for pca in DIMENSIONS:
        means = {}
        for clip in (True, False):
            some = [row for row in found if (row["pca"], row["clip"]) == (pca, clip)]
            means[clip] = 100 * np.array([[row[name] for name in METRICS] for row in some], float)
            yield line(f"PCA {pca}, {'clipped' if clip else 'not clipped'}", means[clip].mean(0))
        apart = means[False] - means[True]
        cells = zip(apart.mean(0), apart.std(0, ddof=1), strict=True)
        yield f"| difference | {' | '.join(f'{mean:+.1f} ± {std:.1f}' for mean, std in cells)} |"


def line(name: str, values: np.ndarray) -> str:
    return f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |"


if __name__ == "__main__":
    main()
