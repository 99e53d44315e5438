"""KISSME on public features of VIPeR and their 100 public splits, beside the published curve.

python -m experiments.lomo_cuhk03.viper FOLDER

FOLDER holds `data/viper_features_MDF.mat`, `data/viper_runs100.mat` and `res/all_viper.fig` of the
repository silasxue/MDF-KISS, the code of Zeng et al. (Electronics Letters 2016): features of 632
people in two cameras after the authors' PCA, of which they keep 44, KISSME's own code without
clipping, 316 training people. The published curve is the median over the splits. Writes viper.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat

from reid_lab.classical import Subspace, kissme
from reid_lab.classical.subspace import metric_directions
from reid_lab.files.tables import write_csv
from reid_lab.results.provenance import commit, machine
from reid_lab.retrieval import Ids, Mahalanobis, rank

PEOPLE, KEPT = 632, 44
RANKS = (1, 5, 10, 20, 25)
Metric = tuple[torch.Tensor, torch.Tensor]  # projection (D, d), signs (d,)
TABLE = Path(__file__).parent / "viper.csv"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.lomo_cuhk03.viper")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    features = loadmat(folder / "data" / "viper_features_MDF.mat")["ux2"][:KEPT].T
    splits = loadmat(folder / "data" / "viper_runs100.mat")["runs"].ravel()
    results: list[dict[str, Any]] = []
    for number, split in enumerate(splits):
        names = ("idxtrain", "idxtest", "idxtrain_neg")
        train, test, other = (split[name].ravel().astype(int) - 1 for name in names)
        drawn = directions(features[train], features[train + PEOPLE], other)
        for name, metric in (*learned(features, train), ("drawn pairs, not clipped", drawn)):
            row = {"split": number, "kissme": name, "dim": len(metric[1])}
            results.append({**row, **accuracy(features, test, *metric)})
    results += [median(results, name) for name in dict.fromkeys(r["kissme"] for r in results)]
    results += published(folder / "res" / "all_viper.fig")
    write_csv(TABLE, results)
    print(f"commit {commit()}; {machine()}; torch {torch.__version__}")
    print(*(row for row in results if row["split"] == "median"), sep="\n")


def median(results: list[dict[str, Any]], name: str) -> dict[str, Any]:
    rows = [row for row in results if row["kissme"] == name]
    medians = {f"rank{k}": float(np.median([row[f"rank{k}"] for row in rows])) for k in RANKS}
    return {"split": "median", "kissme": name, "dim": rows[0]["dim"], **medians}


def learned(features: np.ndarray, train: np.ndarray) -> Iterator[tuple[str, Metric]]:
    """KISSME of the suite, from all pairs of the training people across the cameras."""
    images = torch.from_numpy(np.concatenate([train, train + PEOPLE]))
    space = Subspace.of(torch.from_numpy(features.astype(np.float32))[images])
    camids = (images >= PEOPLE).long() + 1  # the second 632 rows are the second camera's
    for name, clip in (("clipped", True), ("not clipped", False)):
        yield name, kissme(space, images % PEOPLE + 1, camids, KEPT, clip)


def directions(a: np.ndarray, b: np.ndarray, other: np.ndarray) -> Metric:
    """The metric of the published code: one pair of two people for each person, as drawn there."""
    apart = (torch.from_numpy(a - rows) for rows in (b, b[other]))
    values, vectors = metric_directions(*(x.T @ x / len(a) for x in apart))
    return (vectors * values.abs().sqrt()).float(), values.sign().float()


def accuracy(
    features: np.ndarray, test: np.ndarray, projection: torch.Tensor, signs: torch.Tensor
) -> dict[str, float]:
    rows = torch.from_numpy(features.astype(np.float32))
    query, gallery = (rows[torch.from_numpy(test + first)] for first in (0, PEOPLE))
    pids, names = torch.from_numpy(test + 1), test.astype(str)
    first, second = (Ids(pids, torch.full_like(pids, camera), names) for camera in (1, 2))
    metric = Mahalanobis(None, signs)
    ranking = rank(query @ projection, gallery @ projection, first, second, metric)
    return {f"rank{k}": ranking.cmc(k) for k in RANKS}


def published(figure: Path) -> Iterator[dict[str, Any]]:
    """The curve of the published figure, where it is named MDF_KISS."""
    content = loadmat(figure, struct_as_record=False, squeeze_me=True)
    axes = np.atleast_1d(content["hgS_070000"].children)
    for line in (line for part in axes for line in np.atleast_1d(part.children)):
        if getattr(line.properties, "DisplayName", None) == "MDF_KISS":
            curve = line.properties.YData
            ranks = {f"rank{k}": curve[k - 1] for k in RANKS}
            yield {"split": "median", "kissme": "published", "dim": KEPT, **ranks}


if __name__ == "__main__":
    main()
