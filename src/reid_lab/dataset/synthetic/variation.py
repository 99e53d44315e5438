"""Variation of real cameras and clothes, beyond `camera` and `person`, scaled by an amount.

Every function takes `amount`, 0 to 1, and does not change its input at 0.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from reid_lab.dataset.synthetic import palette
from reid_lab.dataset.synthetic.camera import Camera, camera
from reid_lab.dataset.synthetic.draw import Floats
from reid_lab.dataset.synthetic.keys import Domain, Population, stream
from reid_lab.dataset.synthetic.palette import RGB
from reid_lab.dataset.synthetic.person import Pedestrian

# Most people wear one of these.
QUIET: tuple[RGB, ...] = (
    (30, 30, 34), (30, 30, 34), (30, 30, 34), (52, 54, 60), (84, 86, 92), (140, 140, 144),
    (222, 220, 216), (222, 220, 216), (34, 42, 70), (34, 42, 70), (70, 90, 130), (120, 104, 84),
)  # fmt: skip
QUIET_LEGWEAR: tuple[RGB, ...] = (
    (30, 30, 34), (30, 30, 34), (44, 48, 60), (38, 50, 84), (38, 50, 84), (70, 90, 130),
    (96, 96, 100),
)  # fmt: skip


@lru_cache(maxsize=64)
def varied_camera(seed: int, camid: int, amount: float) -> Camera:
    """Return camera `camid` with other colours, exposure, contrast and resolution."""
    view = camera(seed, camid)
    if amount == 0:
        return view
    rng = stream(seed, Domain.VARIATION, camid)
    warmth, tint, exposure, gamma = rng.uniform(-1, 1, 4) * amount
    toned = _toned(view, 0.2 * warmth, 0.06 * tint, 0.25 * exposure, 0.2 * gamma)
    return replace(
        toned,
        saturation=view.saturation * (1 - 0.5 * amount * float(rng.random())),
        detail=view.detail * (1 - 0.5 * amount * float(rng.random())),
        noise=view.noise * (1 + amount * float(rng.random())),
    )


def drifted(view: Camera, track: np.random.Generator, amount: float) -> Camera:
    """Return the camera at the time of a track: white balance, exposure and contrast drift."""
    if amount == 0:
        return view
    warmth, tint, exposure, gamma = track.normal(0, 1, 4) * amount
    return _toned(view, 0.08 * warmth, 0.03 * tint, 0.15 * exposure, 0.12 * gamma)


def _toned(view: Camera, warmth: float, tint: float, exposure: float, gamma: float) -> Camera:
    """Scale the gains, and exposure and gamma by the exponential of theirs."""
    red, green, blue = view.gains
    return replace(
        view,
        gains=(red * (1 + warmth), green * (1 + tint), blue * (1 - warmth)),
        exposure=view.exposure * float(np.exp(exposure)),
        gamma=view.gamma * float(np.exp(gamma)),
    )


@lru_cache(maxsize=256)
def dressed(person: Pedestrian, amount: float) -> Pedestrian:
    """Return the person in quieter colours, sometimes with another colour on the back.

    What is drawn depends on the colours only, so that a family still shares them.
    """
    if amount == 0:
        return person
    colours = (*person.upper_colour, *person.lower_colour, *person.accent)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(colours)))
    quiet = rng.random(4) < np.asarray([0.85, 0.9, 0.6, 0.7]) * amount
    upper = palette.pick(rng, QUIET) if quiet[0] else person.upper_colour
    lower = palette.pick(rng, QUIET_LEGWEAR) if quiet[1] else person.lower_colour
    carried = palette.pick(rng, QUIET) if quiet[2] else person.carried_colour
    shoes = palette.pick(rng, QUIET) if quiet[3] else person.shoes
    strength = 1 - 0.6 * amount * float(rng.random())  # of patterns and prints
    back = palette.pick(rng, palette.CLOTH) if rng.random() < 0.3 * amount else None
    return replace(
        person,
        upper_colour=upper,
        accent=_blend(upper, person.accent, strength),
        inner=_blend(upper, person.inner, strength),
        lower_colour=lower,
        carried_colour=carried,
        shoes=shoes,
        back_colour=back,
    )


def _blend(one: RGB, other: RGB, share: float) -> RGB:
    """Return the colour at fraction `share` from one to the other."""
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def cast(image: Floats, rng: np.random.Generator, amount: float) -> Floats:
    """Cast shadows on an image (3, h, w): of an edge, of foliage or of a fence, or none."""
    kind = float(rng.random())
    if kind >= 0.45 * amount:
        return image
    height, width = image.shape[1:]
    angle, offset = float(rng.uniform(0, np.pi)), float(rng.uniform(-0.4, 0.4))
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    xs = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    along = ys * np.float32(np.sin(angle)) + xs * np.float32(np.cos(angle))
    if kind < 0.05 * amount:  # a fence
        field = np.sin(along * np.float32(rng.uniform(12, 30)))
    elif kind < 0.2 * amount:  # foliage
        field = np.sum([_wave(xs, ys, rng) for _ in range(4)], axis=0) / 2
    else:
        field = along - np.float32(offset)
    soft = np.clip(field * np.float32(rng.uniform(4, 20)) + 0.5, 0, 1)
    dark = np.float32(rng.uniform(0.3, 0.7))
    tint = np.asarray((0.97, 1.0, 1.06), np.float32)[:, None, None]  # lit by the sky
    shaded: Floats = image * (soft + (1 - soft) * dark * tint)
    return shaded


def _wave(xs: Floats, ys: Floats, rng: np.random.Generator) -> Floats:
    a, b = rng.normal(0, 9, 2)
    wave: Floats = np.sin(xs * np.float32(a) + ys * np.float32(b) + np.float32(rng.uniform(0, 6)))
    return wave


def track_stream(seed: int, split: Population, index: int, camid: int) -> np.random.Generator:
    """Return the random stream shared by a person's images in one camera."""
    return stream(seed, Domain.VARIATION, 0, split, index, camid)


def image_stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of an image."""
    return stream(seed, Domain.VARIATION, 1, *key)
