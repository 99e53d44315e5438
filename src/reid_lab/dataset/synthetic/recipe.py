"""The knobs of the synthetic world."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real

_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "train_identities": (0, 20_000),
    "test_identities": (0, 20_000),
    "cameras": (2, 9),  # Market-1501 names have one digit for the camera
    "images_per_camera": (2, 20),
    "distractors": (0, 100_000),
    "junk": (0, 100_000),
    "lookalikes": (0.0, 1.0),
    "height": (64, 512),
    "width": (32, 256),
}


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

    seed: int = 0
    train_identities: int = 200
    test_identities: int = 200
    cameras: int = 6
    images_per_camera: int = 4
    distractors: int = 200
    junk: int = 100
    lookalikes: float = 0.5
    height: int = 128
    width: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), whole=field.name != "lookalikes")
        if self.train_identities + self.test_identities == 0:
            raise ValueError(
                "train_identities and test_identities are both 0, so there is nobody to draw;"
                " set at least one of them to 1 or more"
            )


def _check(name: str, value: object, whole: bool) -> None:
    low, high = _LIMITS[name]
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not number or not low <= float(value) <= high:  # type: ignore[arg-type]
        kind = "a whole number" if whole else "a number"
        raise ValueError(
            f"{name}={value!r} is not allowed; give {kind} from {low:g} to {high:.10g}"
        )
