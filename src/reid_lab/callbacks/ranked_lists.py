"""Ranked lists of example queries at each exit. DaRe, figures 7 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid_lab.budget.policies import candidates_under, confidence
from reid_lab.callbacks.after_ranking import AfterRanking
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.results.queries import ImageCrop, RankedImage, RankedQuery
from reid_lab.retrieval import Evaluation
from reid_lab.types import ImageCount, Seed


class RankedLists(AfterRanking):
    """Adds `queries.json`: the first `top` gallery images of queries in four groups.

    Easy: the first exit is right, with the largest margins. Hard: all exits of a stream but the
    last are wrong, with the smallest margins at the first: "not correctly identified until the last
    stage", as the text on figure 8 has it. The caption differs: queries that "never reach
    sufficient confidence until the very last stage". Worst: the last exit is wrong, with the lowest
    average precision; only its list is kept, with the rank of the first match. Sample: other
    queries, drawn at random.

    Args:
        each: number of queries in each of the four groups.
        top: number of gallery images of each query.
        seed: random seed of the sample; None takes the data module's.
    """

    def __init__(self, each: ImageCount = 4, top: ImageCount = 8, seed: Seed | None = None) -> None:
        super().__init__(seed)
        self.each, self.top = each, top

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        results.queries = [
            self._query(evaluation, i, group, model.exit_names)
            for group, chosen in self._choose(evaluation, model).items()
            for i in chosen
        ]
        results.queries += self._worst(evaluation, model.exit_names[-1])

    def _query(
        self, evaluation: Evaluation, row: int, group: str, exits: Sequence[str], first: int = 0
    ) -> RankedQuery:
        ranked = {
            exit: [
                RankedImage(**_shown(image), distance=image["distance"], match=image["match"])
                for image in evaluation.ranked_list(exit, row, self.top)
            ]
            for exit in exits
        }
        query = _shown(evaluation.embeddings.query.to_dict(row))
        return RankedQuery(**query, group=group, ranked=ranked, first_match=first)

    def _worst(self, evaluation: Evaluation, exit: str) -> list[RankedQuery]:
        ranking = evaluation.rankings[exit]
        wrong = ranking.answerable[0] & (ranking.first[0] > 0)  # of random galleries, the first
        order = ranking.ap[0].masked_fill(~wrong, torch.inf).argsort(stable=True)
        return [
            self._query(evaluation, i, "worst", [exit], int(ranking.first[0, i]) + 1)
            for i in order[: min(self.each, int(wrong.sum()))].tolist()
        ]

    def _choose(self, evaluation: Evaluation, model: ReidModule) -> dict[str, list[int]]:
        e, names = evaluation.embeddings, model.exit_names
        first, last = evaluation.rankings[names[0]], evaluation.rankings[names[-1]]
        seen = candidates_under(evaluation.protocol)
        margins = confidence(
            e.exits[names[0]], e.query, e.gallery, "margin", seen, evaluation.metric
        )
        margin = torch.from_numpy(margins)
        answerable = first.answerable[0]  # of random galleries, the first
        right = answerable & (first.first[0] == 0)
        rescued = answerable & (last.first[0] == 0)
        for name in model.stream_exits[:-1]:
            rescued &= evaluation.rankings[name].first[0] > 0
        easy = margin.masked_fill(~right, -torch.inf).argsort(descending=True)
        hard = margin.masked_fill(~rescued, torch.inf).argsort()
        groups = {
            "easy": easy[: min(self.each, int(right.sum()))].tolist(),
            "hard": hard[: min(self.each, int(rescued.sum()))].tolist(),
        }
        rest = np.setdiff1d(answerable.nonzero().flatten().numpy(), groups["easy"] + groups["hard"])
        others = np.random.default_rng(self.seed or 0).permutation(rest)[: self.each]
        return {**groups, "sample": others.tolist()}


def _shown(ids: Mapping[str, Any]) -> dict[str, Any]:
    """The image, pid and camid of a row of `Ids.to_dict`."""
    box = ids.get("box")
    image = ImageCrop(Path(ids["path"]), tuple(box) if box else None)
    return {"image": image, "pid": ids["pid"], "camid": ids["camid"]}
