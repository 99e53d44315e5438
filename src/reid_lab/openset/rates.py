"""False-accept rates, and how many people and searches can show them. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from reid_lab.errors import UserError

FEWEST_PEOPLE = 5  # minimum number of people for a fit
MOST_QUERIES = 2000  # maximum number of queries for a fit; more are sampled


def check_rate(rate: Any) -> None:
    """Check that 0 < rate <= 1, a false-accept rate.

    Raises:
        UserError: it is not.
    """
    number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not number or not 0 < rate <= 1:
        shown = rate if number else repr(rate)
        raise UserError(f"invalid false-accept rate {shown}: give one with 0 < rate <= 1")


def check_rates(rates: Sequence[float] | None, trials: int, what: str, fix: str) -> None:
    """Check that so many trials, called `what`, can show false-accept rates.

    Raises:
        UserError: a rate outside (0, 1], or below 1 / `trials`.
    """
    for rate in rates or ():
        check_rate(rate)
        if rate * trials < 1:
            raise UserError(
                f"{trials:,} {what} show no false-accept rate below {1 / max(trials, 1):.1e}, "
                f"{rate:g} was given: {fix}, or give a larger rate"
            )
