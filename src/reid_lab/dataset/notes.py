"""Remarks for the user: the values of `auto`, and problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from reid_lab.errors import UserError

if TYPE_CHECKING:
    from reid_lab.dataset.datamodule import ReidDataModule


class Info(str):
    """A remark that only informs; any other string is of what may spoil a number, a warning."""


def automatic_notes(data: ReidDataModule, world: int) -> Iterator[Info]:
    """Yield a remark on `val_identities` and one on `p` and `k`, if they are `auto`."""
    name, identities = data.benchmark.name, data.identities
    if data.given_val == "auto":
        held_out = data.val_identities
        yield Info(
            f"{name}: dataset.val_identities=auto: "
            + (f"{held_out} of {held_out + identities:,}" if held_out else "no")
            + " training identities are held out for validation"
            + ("" if held_out else f": {identities} are too few")
        )
    automatic = [key for key in "pk" if getattr(data, f"given_{key}") == "auto"]
    if automatic and data.batch_size is None:
        keys = " ".join(f"dataset.{key}=auto" for key in automatic)
        yield Info(
            f"{name}: {keys}: training batches of {data.p_of(world)} identities (of "
            f"{identities:,}) x {data.k} images"
        )


def problem_of(check: Callable[[], None]) -> str | None:
    """Return the problems that `check` finds, or None."""
    try:
        check()
    except UserError as error:
        return str(error)
    return None
