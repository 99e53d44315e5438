"""The knobs of the synthetic world."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, get_args, get_type_hints

from annotated_types import Ge, Le

from reid_lab.types import Fraction, Seed

People = Annotated[int, Ge(0), Le(20_000)]
Others = Annotated[int, Ge(0), Le(100_000)]


@dataclass(frozen=True)
class Recipe:
    """What to render; equal recipes give equal bytes.

    seed: picks the people, the cameras, and every picture.
    train_identities, test_identities: number of people in each split; never the same people.
    cameras: number of cameras, shared by both splits.
    images_per_camera: images of a person in each camera that sees them (2 cameras at least).
        Of the test people one of these is the query, the others are gallery.
    distractors: gallery images (pid 0) of people who match no query.
    junk: gallery images (pid -1) of bad detector boxes, which an evaluation ignores.
    lookalikes: share of people (0..1) who live in families of 2-4 that share garment colours.
    height, width: of an image, in pixels.

    Raises ValueError, naming the knob and its range, for a value that is not allowed.
    """

    seed: Seed = 0
    train_identities: People = 200
    test_identities: People = 200
    cameras: Annotated[int, Ge(2), Le(9)] = 6  # Market-1501 names have one digit for it
    images_per_camera: Annotated[int, Ge(2), Le(20)] = 4
    distractors: Others = 200
    junk: Others = 100
    lookalikes: Fraction = 0.5
    height: Annotated[int, Ge(64), Le(512)] = 128
    width: Annotated[int, Ge(32), Le(256)] = 64

    def __post_init__(self) -> None:
        for name, annotation in get_type_hints(type(self), include_extras=True).items():
            _check(name, getattr(self, name), annotation)
        if self.train_identities + self.test_identities == 0:
            raise ValueError(
                "train_identities and test_identities are both 0, so there is nobody to draw;"
                " set at least one of them to 1 or more"
            )


def _check(name: str, value: object, annotation: Any) -> None:
    kind, at_least, at_most = get_args(annotation)
    low, high, whole = at_least.ge, at_most.le, kind is int
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not number or not low <= float(value) <= high:  # type: ignore[arg-type]
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{name}={value!r} is not allowed; give {kind} from {low:g} to {high:.10g}"
        )
