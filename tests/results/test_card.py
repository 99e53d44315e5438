from __future__ import annotations

from typing import Any

import pytest

from reid_lab.results.card import UNKNOWN, ModelCard, licence_of

CARD = ModelCard("market1501", "research only", "ImageNet-1K", UNKNOWN, "dare_market", "0123abcd")


def test_a_card_is_kept_in_plain_types() -> None:
    assert ModelCard.of(CARD.to_dict()) == CARD
    assert ModelCard.of({**CARD.to_dict(), "later": "field"}) == CARD
    assert ModelCard.of({"data": "a\n  b"}) == ModelCard("a b")


@pytest.mark.parametrize("stored", [None, "card", [], {"data": 7}, {"data": "x" * 501}])
def test_a_malformed_card_is_none(stored: Any) -> None:
    assert ModelCard.of(stored) is None


def test_rows_are_what_is_known() -> None:
    assert "its terms" not in CARD.rows
    assert CARD.rows["trained on"] == "market1501"
    assert ModelCard().rows == {}


@pytest.mark.parametrize(
    ("data", "licence"),
    [
        ("cuhk03_new_detected", "research only, no redistribution; ask the owner"),
        ("DukeMTMC-reID", "withdrawn by its authors in 2019"),
        ("Market-1501 (by its 751 classes)", "research only, no redistribution; ask the owner"),
        ("my people", UNKNOWN),
    ],
)
def test_licences_by_the_beginning_of_a_name(data: str, licence: str) -> None:
    assert licence_of(data) == licence
