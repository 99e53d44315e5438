"""Ranked lists of some queries at each exit, for people to look at. DaRe, figures 7 and 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from reid_lab.budget.policies import candidates_under, confidence
from reid_lab.callbacks.after_ranking import AfterRanking
from reid_lab.files.tables import write_json
from reid_lab.model import ReidModule
from reid_lab.retrieval import Evaluation
from reid_lab.types import ImageCount, Seed


class RankedLists(AfterRanking):
    """`results/queries.json`: the first `top` gallery images of some queries of four groups.

    Easy: the first exit is right, and by the largest margins. Hard: the first exit is wrong,
    by the smallest margins, and the last is right. Worst: the last exit is wrong, by the lowest
    average precision; its list alone is kept, with the place of the first match. The others are
    drawn by `seed`.

    Args:
        each: queries of each of the four groups.
    """

    def __init__(
        self, folder: Path | str, each: ImageCount = 4, top: ImageCount = 8, seed: Seed = 0
    ) -> None:
        super().__init__(folder)
        self.each, self.top, self.seed = each, top, seed

    def work(self, evaluation: Evaluation, model: ReidModule) -> None:
        e = evaluation.embeddings
        queries = [
            {
                **e.query.to_dict(i),
                "group": group,
                "ranked": {
                    name: evaluation.ranked_list(name, i, self.top) for name in model.exit_names
                },
            }
            for group, chosen in self._choose(evaluation, model).items()
            for i in chosen
        ]
        queries += self._worst(evaluation, model.exit_names[-1])
        write_json(self.results / "queries.json", {"queries": queries})

    def _worst(self, evaluation: Evaluation, exit: str) -> list[dict[str, Any]]:
        ranking = evaluation.rankings[exit]
        wrong = ranking.answerable[0] & (ranking.first[0] > 0)  # of random galleries, the first
        order = ranking.ap[0].masked_fill(~wrong, torch.inf).argsort(stable=True)
        return [
            {
                **evaluation.embeddings.query.to_dict(i),
                "group": "worst",
                "first_match": int(ranking.first[0, i]) + 1,
                "ranked": {exit: evaluation.ranked_list(exit, i, self.top)},
            }
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
        rescued = answerable & (first.first[0] > 0) & (last.first[0] == 0)
        easy = margin.masked_fill(~right, -torch.inf).argsort(descending=True)
        hard = margin.masked_fill(~rescued, torch.inf).argsort()
        groups = {
            "easy": easy[: min(self.each, int(right.sum()))].tolist(),
            "hard": hard[: min(self.each, int(rescued.sum()))].tolist(),
        }
        rest = np.setdiff1d(answerable.nonzero().flatten().numpy(), groups["easy"] + groups["hard"])
        others = np.random.default_rng(self.seed).permutation(rest)[: self.each]
        return {**groups, "sample": others.tolist()}
