"""Annotations that carry their range, so that the config check can tell what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from annotated_types import Ge, Gt, Le, MinLen

T = TypeVar("T")

Count = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]  # as Lightning takes it
NonEmpty = Annotated[Sequence[T], MinLen(1)]
