"""The parameters of a synthetic data set."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, get_args, get_type_hints

from annotated_types import Ge, Le

from reid_lab.types import RANKING, Fraction, Seed

People = Annotated[int, Ge(0), Le(20_000)]
Others = Annotated[int, Ge(0), Le(100_000)]


@dataclass(frozen=True)
class Recipe:
    """The parameters of a data set; equal recipes give equal bytes.

    Args:
        seed: random seed of people, cameras and images.
        train_identities, test_identities: people of each split, all different.
        cameras: number of cameras, shared by both splits.
        images_per_camera: images of a person in each camera that sees them (at least 2 cameras). Of
            test people, the first one in each camera is a query, the others are gallery images.
        distractors: gallery images (pid 0) of people who match no query.
        junk: gallery images (pid -1) of bad detections, which the evaluation ignores.
        lookalikes: fraction of people in families of 2 to 4 that share garment colours.
        variation: similarity of images and clothes to those of real cameras, 0 to 1 (see
            `variation`); 0 draws the images of older versions.
        height, width: size of the images in pixels.

    Raises:
        ValueError: a value is out of range; the message names both.
    """

    seed: Seed = 0
    train_identities: People = 200
    test_identities: People = 200
    cameras: Annotated[int, Ge(2), Le(9)] = 6  # one digit in Market-1501's names
    images_per_camera: Annotated[int, Ge(2), Le(20)] = 4
    distractors: Annotated[Others, RANKING] = 200
    junk: Others = 100
    lookalikes: Fraction = 0.5
    height: Annotated[int, Ge(64), Le(512)] = 128
    width: Annotated[int, Ge(32), Le(256)] = 64
    variation: Fraction = 0.0

    def __post_init__(self) -> None:
        for name, annotation in get_type_hints(type(self), include_extras=True).items():
            _check(name, getattr(self, name), annotation)
        if self.train_identities + self.test_identities == 0:
            raise ValueError(
                "train_identities and test_identities are both 0: set at least one of them to 1 or"
                " more"
            )


def _check(name: str, value: object, annotation: Any) -> None:
    kind, at_least, at_most, *_ = get_args(annotation)
    low, high, whole = at_least.ge, at_most.le, kind is int
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not number or not low <= float(value) <= high:  # type: ignore[arg-type]
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{name}={value!r} is not allowed; expected {kind} from {low:g} to {high:.10g}"
        )
