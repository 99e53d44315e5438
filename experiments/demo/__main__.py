"""At which exits the demo's queries stop at a mean budget, and why: an easy and a hard one.

python -m experiments.demo last.ckpt ~/.cache/reid_lab/synthetic-b905fb3a

Arguments: the checkpoint of a run of the demo, and the folder of the people that it rendered.
Writes stops.csv, two_queries.csv, easy.jpg and hard.jpg.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tables import Rows, write
from reid_lab import BudgetedStream, embed, evaluate, load_model
from reid_lab.budget.policies import Lookup
from reid_lab.cost.currency import ExitCosts
from reid_lab.cost.mul_adds import count_exits
from reid_lab.dataset import read_market1501
from reid_lab.files.atomic import write_bytes
from reid_lab.report.pictures import ranked_jpg
from reid_lab.results.queries import ImageCrop, RankedImage, RankedQuery
from reid_lab.retrieval import Embeddings, Evaluation, Exit, Ids

HERE = Path(__file__).parent
BUDGET = 0.6  # mean Mul-Adds of a query, over those of the whole network
QUERIES = {"easy": "0362_c2s1_070602_00.jpg", "hard": "0150_c4s1_020789_00.jpg"}
TOP = 6  # gallery images in a ranked list


def main(checkpoint: str, root: str) -> None:
    model, people = load_model(checkpoint), read_market1501(root)
    query, gallery = Ids.of(people.query), Ids.of(people.gallery)
    mul_adds = count_exits(model, 128, 64)
    rows, found = embed(model, list(query.paths)), embed(model, list(gallery.paths))
    exits = {name: Exit(rows[name], found[name], mul_adds[name]) for name in model.stream_exits}
    evaluation = evaluate(Embeddings(query, gallery, exits))

    lookups = {name: Lookup(found[name], gallery) for name in exits}
    costs = ExitCosts.of_mul_adds(mul_adds)
    stream = BudgetedStream.planned(model, lookups, costs, BUDGET * mul_adds["fusion"])
    taken = stream.replay(rows, query).exits
    margins = [
        lookup.features(rows[name], query, ("margin",))[0]["margin"]
        for name, lookup in lookups.items()
    ]

    write(HERE / "stops.csv", stops(evaluation, taken))
    names = [Path(path).name for path in query.paths]
    listed = []
    for kind, name in QUERIES.items():
        row = names.index(name)
        reached = stream.exits[: taken[row] + 1]
        shown = ranked(evaluation, row, kind, reached)
        listed += [
            {
                "query": kind,
                "image": name,
                "exit": exit,
                "mul_adds": mul_adds[exit],
                "margin": f"{margins[s][row]:.3f}",
                "stops": int(s == taken[row]),
                "match": int(shown.ranked[exit][0].match),
            }
            for s, exit in enumerate(reached)
        ]
        picture = ranked_jpg([shown])
        assert picture is not None
        write_bytes(HERE / f"{kind}.jpg", picture)
    write(HERE / "two_queries.csv", listed)


def stops(evaluation: Evaluation, taken: np.ndarray) -> Rows:
    """The queries that stop at each exit, and of all: how many are right there and elsewhere.

    Args:
        taken: (Q,) index of the exit that a query stops at.
    """
    mul_adds = np.array([*evaluation.mul_adds.values()])
    right = np.stack([(r.first[0] == 0).numpy() for r in evaluation.rankings.values()], 1)  # (Q, S)
    at_exit = right[np.arange(len(taken)), taken]

    names = tuple(evaluation.rankings)

    def row(exit: str, chosen: np.ndarray) -> dict[str, Any]:
        return {
            "exit": exit,
            "mul_adds": mul_adds[taken[chosen]].mean(),
            "queries": int(chosen.sum()),
            "share": chosen.mean(),
            "rank1": at_exit[chosen].mean(),
            **{f"rank1_{name}": right[chosen, s].mean() for s, name in enumerate(names)},
        }

    every = [row(name, taken == s) for s, name in enumerate(names)]
    return [*every, row("all", taken >= 0)]


def ranked(evaluation: Evaluation, row: int, kind: str, exits: Sequence[str]) -> RankedQuery:
    """A query with the ranked lists of the exits that it reaches."""

    def crop(image: dict[str, Any]) -> dict[str, Any]:
        return {"image": ImageCrop(Path(image.pop("path"))), **image}

    lists = {
        exit: [RankedImage(**crop(image)) for image in evaluation.ranked_list(exit, row, TOP)]
        for exit in exits
    }
    heading = f"{kind.capitalize()}: stops at {exits[-1]}"
    own = crop(evaluation.embeddings.query.to_dict(row))
    return RankedQuery(**own, group=heading, ranked=lists)


if __name__ == "__main__":
    main(*sys.argv[1:])
