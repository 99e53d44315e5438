"""Identities: body, hair, clothes and luggage of a person."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from reid_lab.dataset.synthetic import palette
from reid_lab.dataset.synthetic.keys import Domain, Population, stream
from reid_lab.dataset.synthetic.palette import RGB

UPPERS = ("tshirt", "tshirt", "longsleeve", "jacket", "coat", "hoodie")
LOWERS = ("trousers", "jeans", "jeans", "trousers", "shorts", "skirt", "dress")
PATTERNS = ("plain", "rings", "pales", "checks", "block", "dots", "band", "halves")
HAIRS = ("short", "short", "long", "bun", "bald", "ponytail", "bob")
HATS = ("none", "cap", "beanie", "hood", "hat")
CARRIED = ("none", "backpack", "shoulderbag", "handbag", "tote", "umbrella", "suitcase")
LOGOS = ("none", "disc", "bars", "cross", "wedge", "frame")


@dataclass(frozen=True)
class Pedestrian:
    """An identity. Colours are RGB, 0 to 255; `build`, `frame`, `legs` are factors around 1."""

    build: float  # of all widths
    frame: float  # of the shoulders' width; the hips' is divided by it
    legs: float  # of the legs' length
    skin: RGB
    hair: str
    hair_colour: RGB
    hat: str
    hat_colour: RGB
    glasses: bool
    upper: str
    upper_colour: RGB
    accent: RGB
    inner: RGB
    pattern: str
    pattern_size: float
    logo: str
    back_print: str
    lower: str
    lower_colour: RGB
    side_stripe: bool
    shoes: RGB
    carried: str
    carried_colour: RGB
    stride: float
    back_colour: RGB | None = None  # of the upper garment's back; None: as its front


# What family members differ in; values are assigned by permutation, so that every pair differs.
_DETAILS = ("hair", "shoes", "carried", "logo", "back_print")

# Passers-by in occlusions and junk; few, so that they stay cached.
FIRST_PASSERBY, PASSERSBY = 1_000_000, 40
BLOCK = 12  # families are formed within fixed blocks of people, whatever their number


@lru_cache(maxsize=256)
def person(seed: int, lookalikes: float, split: Population, index: int) -> Pedestrian:
    """Return person `index` of a population; it does not depend on the number of people."""
    if split is Population.PASSERBY:
        return random_pedestrian(stream(seed, Domain.PERSON, split, index))
    block, number = divmod(index, BLOCK)
    for first, size in families(seed, lookalikes, split, block):
        if first <= number < first + size:
            break
    own = random_pedestrian(stream(seed, Domain.PERSON, split, index))
    if size == 1:
        return own
    return _family_member(stream(seed, Domain.FAMILY, split, block, first), own, number - first)


@lru_cache(maxsize=64)
def families(
    seed: int, lookalikes: float, split: Population, block: int
) -> tuple[tuple[int, int], ...]:
    """Return (first position, size) of each family in a block; size 1 has no look-alike."""
    rng = stream(seed, Domain.BLOCK, split, block)
    wanted = int(BLOCK * lookalikes + rng.random())  # unbiased rounding
    sizes: list[int] = []
    while wanted >= 2:
        size = min(int(rng.integers(2, 5)), wanted)
        if wanted - size == 1:  # no family of one
            size += 1 if size < 4 else -1
        sizes.append(size)
        wanted -= size
    sizes += [1] * (BLOCK - sum(sizes))
    rng.shuffle(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return tuple((int(start), size) for start, size in zip(starts, sizes, strict=True))


def random_pedestrian(rng: np.random.Generator) -> Pedestrian:
    """Draw a person."""
    frame = float(rng.uniform(0.9, 1.1))
    upper = _choose(rng, UPPERS)
    colour = palette.pick(rng, palette.CLOTH)
    accent = palette.contrasting(rng, palette.CLOTH, colour)
    lower = _choose(rng, LOWERS if frame < 1.0 else LOWERS[:5])
    legwear = palette.pick(rng, palette.CLOTH if lower in ("skirt", "dress") else palette.LEGWEAR)
    skin = palette.pick(rng, palette.SKIN, 0.4)
    return Pedestrian(
        build=float(rng.uniform(0.92, 1.28)),
        frame=frame,
        legs=float(rng.uniform(0.96, 1.04)),
        skin=skin,
        hair=_choose(rng, HAIRS if frame < 1.0 else ("short", "short", "short", "bald", "bob")),
        hair_colour=palette.pick(rng, palette.HAIR, 0.5),
        hat=_choose(rng, HATS, 0.6),
        hat_colour=palette.pick(rng, palette.CLOTH),
        glasses=bool(rng.random() < 0.2),
        upper="tshirt" if lower == "dress" else upper,
        upper_colour=colour,
        accent=accent,
        inner=palette.contrasting(rng, palette.CLOTH, colour),
        pattern=_choose(rng, PATTERNS, 0.35),
        pattern_size=float(rng.uniform(0.8, 1.25)),
        logo=_choose(rng, LOGOS, 0.6),
        back_print=_choose(rng, LOGOS, 0.6),
        lower=lower,
        lower_colour=legwear,
        side_stripe=bool(rng.random() < 0.15),
        shoes=palette.pick(rng, palette.SHOES),
        carried=_choose(rng, CARRIED, 0.4),
        carried_colour=palette.contrasting(rng, palette.CLOTH, colour, apart=80),
        stride=float(rng.uniform(0.8, 1.15)),
    )


def _family_member(rng: np.random.Generator, own: Pedestrian, member: int) -> Pedestrian:
    """Return the person number `member` of a family: shared clothes, own body and details."""
    shared = random_pedestrian(rng)
    person = replace(
        own,
        frame=shared.frame,
        skin=shared.skin,
        side_stripe=shared.side_stripe,
        upper=shared.upper,
        upper_colour=shared.upper_colour,
        accent=shared.accent,
        inner=shared.inner,
        lower=shared.lower,
        lower_colour=shared.lower_colour,
        hat_colour=shared.accent,
        carried_colour=shared.carried_colour,
        hair=shared.hair,
        hair_colour=shared.hair_colour,
        hat=shared.hat,
        shoes=shared.shoes,
        carried=shared.carried,
        logo=shared.logo,
        back_print=shared.back_print,
    )
    choices: dict[str, tuple[object, ...]] = {
        "pattern": PATTERNS[:-1],  # `halves` looks plain from one side
        "hat": HATS,
        "hair": ("short", "long", "bun", "ponytail", "bob", "bald"),
        "shoes": palette.SHOES[:6],
        "carried": CARRIED,
        "logo": LOGOS[1:],
        "back_print": LOGOS[1:],
    }
    names = {"pattern", *rng.choice(_DETAILS, size=2, replace=False)}
    if rng.random() < 0.3:
        names.add("hat")
    if shared.upper in ("jacket", "coat"):  # these show no logo
        names = names - {"logo"} | {"carried", "shoes"}
    changes = {}
    for name in sorted(choices):  # drawn for all, so that each member uses the same random numbers
        order = rng.permutation(len(choices[name]))
        if name in names:
            changes[name] = choices[name][int(order[member])]
    return replace(person, **changes)  # type: ignore[arg-type]


def _choose(rng: np.random.Generator, options: tuple[str, ...], first: float = 0.0) -> str:
    """Choose an option: the first with probability `first`, else any with equal probability."""
    if rng.random() < first:
        return options[0]
    return options[int(rng.integers(len(options)))]
