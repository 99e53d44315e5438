"""Checkpoints on data sets that they were not trained on: accuracy across domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reid_lab.frontier.points import FrontierError, Point


def suffix(data: str) -> str:
    """The end of a method's name whose checkpoint was trained on other data."""
    return f" (trained on {data})"


def across(points: Sequence[Point]) -> list[Point]:
    """The points of transferred checkpoints; their data set is `TRAINED ON to TESTED ON`.

    A method has the same name on each pair, so that `average` takes the mean over them.

    Raises:
        FrontierError: no checkpoint was tested on a data set that it was not trained on.
    """
    found = [
        replace(
            p,
            dataset=f"{p.trained_on} to {p.dataset}",
            method=p.method.replace(suffix(p.trained_on), "", 1),
        )
        for p in points
        if p.trained_on
    ]
    if not found:
        raise FrontierError(
            "--transfer: no checkpoint was tested on a data set that it was not trained on; test "
            "some with -m +sweep=transfer ckpt_path=A.ckpt,B.ckpt dataset=..."
        )
    return found
