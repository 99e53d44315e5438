"""Keys of numbers and dates: their texts are in the order of what they stand for."""

from __future__ import annotations

import itertools
import random

import pytest

from reid_lab.gallery.milvus_filter import KEY_BYTES, expression, key_of
from reid_lab.gallery_format.conditions import ConditionError, comparable, parse

NUMBERS = [
    "0", "-0", "0.0", "1", "1.0", "+1", "10", "100e-1", "9", "-9", "-10", "-1.2", "-1.23", "1.2",
    "1.23", ".5", "5e-1", "-5e-999", "5e-999", "1e999", "-1e999", "9" * 30, "-" + "9" * 30,
    "9" * 29 + "8", "0." + "0" * 29 + "1", "123456789.123456789", "123456789.123456788",
]  # fmt: skip
DATES = [
    "2026-01-01", "2026-01-01T00:00", "2026-01-01T01:00+01:00", "2026-01-01T00:00:00.000001",
    "2025-12-31T23:59:59.999999Z", "0999-05-05", "9999-12-31", "2026-01-01 08:30", "2026-01-10",
]  # fmt: skip


@pytest.mark.parametrize("texts", [NUMBERS, DATES])
def test_keys_have_the_order_of_their_values(texts: list[str]) -> None:
    rng = random.Random(0)
    more = [f"{rng.uniform(-1, 1) * 10 ** rng.randint(-9, 9):.6g}" for _ in range(60)]
    every = texts + (more if texts is NUMBERS else [])
    for a, b in itertools.product(every, every):
        assert (key_of(a) < key_of(b)) == (comparable(a) < comparable(b)), (a, b)  # type: ignore[operator]
        assert (key_of(a) == key_of(b)) == (comparable(a) == comparable(b)), (a, b)
    assert max(len(key_of(text)) for text in every) <= KEY_BYTES


@pytest.mark.parametrize("text", ["", "north", "2026-02-30", "1 2", "nan", "1e1000", "2026"])
def test_only_numbers_and_dates_have_keys(text: str) -> None:
    assert bool(key_of(text)) == (text in ("2026",))


def test_a_column_without_such_values_is_told() -> None:
    (condition,) = parse("site>=3")
    empty = lambda wanted: "_key" not in wanted  # noqa: E731 - texts alone
    with pytest.raises(ConditionError, match="site>=3 compares numbers, and no value of site is a"):
        expression(condition, "site", "site_key", empty)
    nothing = expression(condition, "site", "site_key", lambda wanted: False)
    assert nothing.startswith("(site_key >= ")
