"""Who a person is: body, hair, clothes, and what they carry."""

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
    """One identity. Colours are RGB 0-255; `build` and `frame` are factors around 1."""

    build: float  # width of everything
    frame: float  # shoulders against hips: above 1 broad shoulders
    legs: float  # length of the legs against the whole
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


# What the members of a family may differ in, by permutation, so that every pair differs.
_DETAILS = ("hair", "shoes", "carried", "logo", "back_print")

# Passers-by in front of others and in junk; few, so that they stay cached.
FIRST_PASSERBY, PASSERSBY = 1_000_000, 40
BLOCK = 12  # people are grouped into families inside fixed blocks, whatever their number


@lru_cache(maxsize=256)
def person(seed: int, lookalikes: float, split: Population, index: int) -> Pedestrian:
    """The person `index` of a split; does not depend on how many people there are."""
    if split is Population.PASSERBY:
        return draw(stream(seed, Domain.PERSON, split, index))
    block, place = divmod(index, BLOCK)
    for first, size in families(seed, lookalikes, split, block):
        if first <= place < first + size:
            break
    own = draw(stream(seed, Domain.PERSON, split, index))
    if size == 1:
        return own
    return _member(stream(seed, Domain.FAMILY, split, block, first), own, place - first)


@lru_cache(maxsize=64)
def families(
    seed: int, lookalikes: float, split: Population, block: int
) -> tuple[tuple[int, int], ...]:
    """(first place, size) of each family in a block of people; size 1 is nobody's look-alike."""
    rng = stream(seed, Domain.BLOCK, split, block)
    wanted = int(BLOCK * lookalikes + rng.random())  # unbiased rounding
    sizes: list[int] = []
    while wanted >= 2:
        size = min(int(rng.integers(2, 5)), wanted)
        if wanted - size == 1:  # nobody may be left over
            size += 1 if size < 4 else -1
        sizes.append(size)
        wanted -= size
    sizes += [1] * (BLOCK - sum(sizes))
    rng.shuffle(sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return tuple((int(start), size) for start, size in zip(starts, sizes, strict=True))


def draw(rng: np.random.Generator) -> Pedestrian:
    """Somebody at random."""
    frame = float(rng.uniform(0.9, 1.1))
    upper = _one(rng, UPPERS)
    colour = palette.pick(rng, palette.CLOTH)
    accent = palette.contrasting(rng, palette.CLOTH, colour)
    lower = _one(rng, LOWERS if frame < 1.0 else LOWERS[:5])
    legwear = palette.pick(rng, palette.CLOTH if lower in ("skirt", "dress") else palette.LEGWEAR)
    skin = palette.pick(rng, palette.SKIN, 0.4)
    return Pedestrian(
        build=float(rng.uniform(0.92, 1.28)),
        frame=frame,
        legs=float(rng.uniform(0.96, 1.04)),
        skin=skin,
        hair=_one(rng, HAIRS if frame < 1.0 else ("short", "short", "short", "bald", "bob")),
        hair_colour=palette.pick(rng, palette.HAIR, 0.5),
        hat=_one(rng, HATS, 0.6),
        hat_colour=palette.pick(rng, palette.CLOTH),
        glasses=bool(rng.random() < 0.2),
        upper="tshirt" if lower == "dress" else upper,
        upper_colour=colour,
        accent=accent,
        inner=palette.contrasting(rng, palette.CLOTH, colour),
        pattern=_one(rng, PATTERNS, 0.35),
        pattern_size=float(rng.uniform(0.8, 1.25)),
        logo=_one(rng, LOGOS, 0.6),
        back_print=_one(rng, LOGOS, 0.6),
        lower=lower,
        lower_colour=legwear,
        side_stripe=bool(rng.random() < 0.15),
        shoes=palette.pick(rng, palette.SHOES),
        carried=_one(rng, CARRIED, 0.4),
        carried_colour=palette.contrasting(rng, palette.CLOTH, colour, apart=80),
        stride=float(rng.uniform(0.8, 1.15)),
    )


def _member(rng: np.random.Generator, own: Pedestrian, place: int) -> Pedestrian:
    """Member `place` of the family of this stream: shared clothes, own body, own details."""
    shared = draw(rng)
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
        "pattern": PATTERNS[:-1],  # halves look plain from one side
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
    if shared.upper in ("jacket", "coat"):  # they have no logo
        names = names - {"logo"} | {"carried", "shoes"}
    changes = {}
    for name in sorted(choices):  # drawn for all, so that each member sees the same stream
        order = rng.permutation(len(choices[name]))
        if name in names:
            changes[name] = choices[name][int(order[place])]
    return replace(person, **changes)  # type: ignore[arg-type]


def _one(rng: np.random.Generator, options: tuple[str, ...], first: float = 0.0) -> str:
    """One option; the first with probability `first`, otherwise any with equal chance."""
    if rng.random() < first:
        return options[0]
    return options[int(rng.integers(len(options)))]
