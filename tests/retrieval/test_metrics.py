"""A ranking by hand, from the ranks of the matches."""

from __future__ import annotations

import pytest
import torch

from reid_lab.retrieval.metrics import Ranking


def test_places_by_hand() -> None:
    # matches at the ranks 1, 3 and 4; at 2, beside padding; none
    ranks = torch.tensor([[1, 3, 4], [2, 99, 99], [99, 99, 99]])
    found = Ranking.of_ranks(ranks, torch.tensor([3, 1, 0]))
    assert found.first.dtype == torch.int64 and found.first.tolist() == [[0, 1, 0]]
    assert found.answerable.tolist() == [[True, True, False]]
    ap = (1 / 1 + 2 / 3 + 3 / 4) / 3
    assert found.ap[0].tolist() == pytest.approx([ap, 1 / 2, 0])
    before = (1 + 1 / 2 + 2 / 3) / 3  # the precision just before each; 1 at the start
    assert found.ap_trapezoid[0].tolist() == pytest.approx([(ap + before) / 2, 1 / 4, 0])
    assert found.inp[0].tolist() == pytest.approx([3 / 4, 1 / 2, 0])
    for name in ("ap", "ap_trapezoid", "inp"):
        assert getattr(found, name).dtype == torch.float64
    assert found.cmc(1) == 1 / 2 and found.cmc(2) == 1


def test_a_skipped_query_equals_one_without_a_match() -> None:
    skipped, none = Ranking.skipped(2), Ranking.of_ranks(torch.full((2, 3), 9), torch.zeros(2))
    for name in ("first", "ap", "ap_trapezoid", "inp", "answerable"):
        assert torch.equal(getattr(skipped, name), getattr(none, name)), name
