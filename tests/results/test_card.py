from __future__ import annotations

from typing import Any

import pytest

from reid_lab.results.card import UNKNOWN, Card, licence_of

CARD = Card("market1501", "research only", "ImageNet-1K", UNKNOWN, "dare_market", "0123abcd")


def test_a_card_is_kept_in_plain_types() -> None:
    assert Card.of(CARD.to_dict()) == CARD
    assert Card.of({**CARD.to_dict(), "later": "field"}) == CARD
    assert Card.of({"data": "a\n  b"}) == Card("a b")


@pytest.mark.parametrize("stored", [None, "card", [], {"data": 7}, {"data": "x" * 501}])
def test_a_malformed_card_is_none(stored: Any) -> None:
    assert Card.of(stored) is None


def test_rows_are_what_is_known() -> None:
    assert "its terms" not in CARD.rows
    assert CARD.rows["trained on"] == "market1501"
    assert Card().rows == {}


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
