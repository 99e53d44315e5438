"""Filters on columns: numbers, dates and text, compared as what they are."""

from __future__ import annotations

import re

import pytest

from reid_lab.gallery_format.conditions import Condition, ConditionError, mask, parse, quoted

COLUMNS = {
    "site": ["north", "south", "", "North East"],
    "time": ["2026-01-01", "2026-01-01T09:30:00.5Z", "", "2025-12-31T23:30-01:00"],
    "age": ["7", "10", "", "7.0"],
    "licence remark": ["on file", "", "asked", "<b>"],
    "name": ["O'Neil", 'Ann "A."', "Bob 'B\"", "'"],
    "number": ["123456789012345678901", "123456789012345678902", "x", "1e3"],
}


def rows(text: str) -> list[int]:
    columns = {name: lambda values=values: values for name, values in COLUMNS.items()}
    return [int(row) for row in mask(parse(text), columns).nonzero()[0]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("site=north", [0]),
        ("site!=north", [1, 2, 3]),
        ("site=''", [2]),
        ('site = "North East"', [3]),
        ("site>=north", [0, 1]),  # as text, capitals first; nothing is smaller than no value
        ("time>=2026-01-01", [0, 1, 3]),  # half past midnight in UTC
        ("time>2026-01-01T09:30", [1]),
        ("time=2026-01-01T00:00Z", [0]),
        ("time<'2026-01-01 00:00:01'", [0]),
        ("age=7", [0, 3]),
        ("age>7", [1]),
        ("age!=7", [1, 2]),
        ("age<1e1", [0, 3]),
        ("number=123456789012345678901", [0]),  # more digits than a float has
        ("number=x", [2]),
        ("site=north and age<10", [0]),
        ("site=north AND age>=10", []),
        ("'licence remark'='on file' and \"site\"=north", [0]),
        ("'licence remark'='<b>'", [3]),
        ('name="O\'Neil"', [0]),
        ("name='O''Neil' and site=north", [0]),
        ("name='Ann \"A.\"'", [1]),
        ("name='Bob ''B\"'", [2]),
        ("name=''''", [3]),
    ],
)
def test_rows_that_a_filter_selects(text: str, wanted: list[int]) -> None:
    assert rows(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected name, operator"),
        ("site", "expected name, operator"),
        ("site==north", "at 'site==north': expected name"),
        ("site=north or site=south", "at 'or site=south': join conditions by and"),
        ("site=north and", "at 'and': join conditions"),
        ("site=north and ", "at ' ': expected name"),
        ("site=North East", "at 'East': join conditions by and, quote values"),
        ("site='north", "expected name, operator"),
        ("place=north", "unknown column 'place'; available: site, time, age, licence remark"),
        ("time>=2026", "no value of time is a number, such as '2025-12-31T23:30-01:00'"),
        ("age<2026-01-01", "no value of age is a date, such as '10'"),
    ],
)
def test_invalid_filters_are_errors(text: str, message: str) -> None:
    with pytest.raises(ConditionError, match=re.escape(message)):
        rows(text)


@pytest.mark.parametrize("text", COLUMNS["name"])
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    assert parse(f"name={quoted(text)} and site=''")[0].value == text


def test_an_invalid_date_is_text() -> None:
    assert Condition("x", "=", "2026-02-30").holds(["2026-02-30", "2026-03-02"]).tolist() == [
        True,
        False,
    ]


def test_a_long_filter_takes_no_exponential_time() -> None:
    with pytest.raises(ConditionError):
        parse("a" * 100_000 + " " * 100_000)
