"""Who is named at a false-accept rate, strangers and known people; strangers.csv.

    python -m experiments.bench_serve.strangers --model exported --gallery stage1 stage2 fusion \\
        --known PEOPLE/query --strangers "other cameras=OTHER/query" \\
        "the same cameras=MORE/query@410" --rates 0.01 0.001 --out strangers.csv

By the thresholds that the service takes for a search, of galleries that were calibrated. Strangers
are people of no image in the galleries; of the known people, the images of the query's own camera
are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.bench_serve.__main__ import own
from reid_lab.files.tables import write_csv
from reid_lab.results.provenance import commit, machine
from reid_lab.runtime.model import Model
from reid_lab.serve.open import open_people
from reid_lab.serve.people import People

DRAWS = 1_000  # of people, for an interval: images of a person are alike


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--gallery", type=Path, nargs="+", required=True, help="one for each exit")
    parser.add_argument("--known", type=Path, required=True, help="files named as Market-1501's")
    parser.add_argument(
        "--strangers", nargs="+", required=True, help="NAME=FOLDER, or NAME=FOLDER@LOWEST_PID"
    )
    parser.add_argument("--rates", type=float, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = Model(args.model, 1)
    folders = dict(text.split("=", 1) for text in args.strangers)
    with TemporaryDirectory() as folder:
        people = open_people(Path(folder) / "people.sqlite", model, args.gallery)
        rows = [*_known_rows(model, people, sorted(args.known.glob("*.jpg")), args.rates)]
        for name, place in folders.items():
            images, _, lowest = place.partition("@")
            paths = sorted(Path(images).glob("*.jpg"))
            paths = [path for path in paths if int(own(path)[0]) >= int(lowest or 0)]
            rows += _stranger_rows(model, people, name, paths, args.rates)
        people.close()
    write_csv(args.out, rows)


def _known_rows(
    model: Model, people: People, paths: Sequence[Path], rates: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """Rows of the known people: how many are named, and how many correctly."""
    paths = [path for path in paths if people.knows(own(path)[0])]
    pids, camids = zip(*(own(path) for path in paths), strict=True)
    for exit, embeddings in model.embed_files(paths).items():
        if exit not in people.queries:
            continue
        near, right = np.empty(len(paths)), np.empty(len(paths), bool)
        for i, query in enumerate(embeddings):
            match = people.search(people.compare(exit, query, camids[i]), 1)[0]
            near[i], right[i] = match.distance, match.pid == pids[i]
        for rate in rates:
            yield _row(people, exit, "known people", rate, near, right, np.array(pids))


def _stranger_rows(
    model: Model, people: People, name: str, paths: Sequence[Path], rates: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """Rows of people who are in no gallery: how many are named."""
    pids = np.array([own(path)[0] for path in paths])
    for exit, embeddings in model.embed_files(paths).items():
        if exit in people.queries:
            near, nobody = people.nearest(exit, embeddings), np.zeros(len(paths), bool)
            for rate in rates:
                yield _row(people, exit, f"strangers of {name}", rate, near, nobody, pids)


def _row(
    people: People,
    exit: str,
    queries: str,
    rate: float,
    near: np.ndarray,
    right: np.ndarray,
    pids: np.ndarray,
) -> dict[str, Any]:
    threshold = people.threshold(exit, rate)
    assert threshold is not None
    named = near < threshold.distance
    low, high = _interval(named, pids)
    known, images = people.count()
    return {
        "people": known,
        "gallery_images": images,
        "exit": exit,
        "queries": queries,
        "rate": rate,
        "shown": round(threshold.false_accept_rate, 6),
        "coarse": threshold.coarse,
        "threshold": round(threshold.distance, 4),
        "images": len(near),
        "persons": len(np.unique(pids)),
        "named": round(float(named.mean()), 5),
        "named_low": round(low, 5),
        "named_high": round(high, 5),
        "named_rightly": round(float((named & right).mean()), 5),
        "rank1": round(float(right.mean()), 5),
        "commit": commit(),
        "machine": machine(),
    }


def _interval(named: np.ndarray, pids: np.ndarray) -> tuple[float, float]:
    """A 95% confidence interval by a bootstrap over people."""
    _, number = np.unique(pids, return_inverse=True)
    images, of_person = np.bincount(number), np.bincount(number, named)
    drawn = np.random.default_rng(0).integers(0, len(images), (DRAWS, len(images)))
    shares = of_person[drawn].sum(1) / images[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975]).tolist()
    return low, high


if __name__ == "__main__":
    main()
