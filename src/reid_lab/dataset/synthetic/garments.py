"""Textures of a person: clothes, face and bag, unwrapped from the tubes of the body.

Every texture is (3, rows, columns) float32, 0 to 255. Rows run along the tube, columns around it:
the middle is the person's front, right of it their left side, the outer edge their back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from reid_lab.dataset.synthetic.accessories import bag, hat, head, shoe
from reid_lab.dataset.synthetic.draw import Floats
from reid_lab.dataset.synthetic.palette import scaled
from reid_lab.dataset.synthetic.person import Pedestrian
from reid_lab.dataset.synthetic.prints import COLUMNS, ROWS, flat, ink, pattern, stamp


@dataclass(frozen=True)
class Wardrobe:
    """The textures of one person."""

    torso: Floats
    sleeve: Floats
    pelvis: Floats
    leg: Floats
    skirt: Floats
    head: Floats
    skin: Floats
    hair: Floats
    hat: Floats
    shoe: Floats
    bag: Floats


@lru_cache(maxsize=128)
def wardrobe(person: Pedestrian) -> Wardrobe:
    """Draw all textures of a person."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(person.hair_colour)))
    skirt_colour = person.upper_colour if person.lower == "dress" else person.lower_colour
    skirt = flat(skirt_colour, 48, COLUMNS)
    if person.lower == "dress":
        pattern(skirt, person, scale=0.6)
    return Wardrobe(
        torso=_folded(_torso(person), rng, 0.07),
        sleeve=_folded(_sleeve(person), rng, 0.08),
        pelvis=_folded(_pelvis(person), rng, 0.05),
        leg=_folded(_leg(person), rng, 0.1),
        skirt=_folded(skirt, rng, 0.12),
        head=_plain_array(head(person)),
        skin=_plain_array(flat(person.skin)),
        hair=_folded(flat(person.hair_colour, 24, 64), rng, 0.16),
        hat=_plain_array(hat(person)),
        shoe=_plain_array(shoe(person)),
        bag=_folded(bag(person), rng, 0.05),
    )


def _plain_array(image: Image.Image) -> Floats:
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1))


def _folded(image: Image.Image, rng: np.random.Generator, depth: float) -> Floats:
    """Add folds: smooth noise, longer along the tube than around it."""
    rows, columns = image.height, image.width
    coarse = rng.normal(1.0, depth, (max(3, rows // 14), max(4, columns // 9))).astype(np.float32)
    coarse[:, -1] = coarse[:, 0]  # continuous at the back
    folds = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC)
    return _plain_array(image) * np.asarray(folds, np.float32)


def _torso(person: Pedestrian) -> Image.Image:
    image = flat(person.upper_colour, ROWS, COLUMNS)
    draw = ImageDraw.Draw(image)
    pattern(image, person)
    if person.pattern == "block":
        draw.rectangle((0, 0, COLUMNS, ROWS * 0.45), fill=person.accent)
    if person.pattern == "band":
        draw.rectangle((0, ROWS * 0.36, COLUMNS, ROWS * 0.58), fill=person.accent)
    middle = COLUMNS / 2
    if person.upper == "jacket":
        draw.polygon(
            [(middle - 9, 0), (middle + 9, 0), (middle + 15, ROWS), (middle - 15, ROWS)],
            fill=person.inner,
        )
        for side in (-1, 1):  # lapels
            edge = scaled(person.upper_colour, 0.6)
            draw.line([(middle + side * 9, 0), (middle + side * 15, ROWS)], fill=edge, width=2)
    elif person.upper == "coat":
        draw.line([(middle, 0), (middle, ROWS)], fill=scaled(person.upper_colour, 0.5), width=2)
        draw.polygon([(middle - 10, 0), (middle + 10, 0), (middle, 26)], fill=person.inner)
    else:
        stamp(draw, person.logo, (middle - 15, 26, middle + 15, 56), ink(person))
    if person.upper in ("hoodie", "coat"):
        pocket = scaled(person.upper_colour, 0.75)
        draw.rectangle((middle - 18, 66, middle + 18, 68), fill=pocket)
    if person.upper in ("tshirt", "longsleeve"):
        draw.ellipse((middle - 15, -14, middle + 15, 9), fill=person.skin)
        draw.arc((middle - 17, -16, middle + 17, 11), 0, 180, scaled(person.upper_colour, 0.6), 2)
    draw.rectangle((0, ROWS - 4, COLUMNS, ROWS), fill=scaled(person.upper_colour, 0.7))
    image = _behind(image, person)
    _straps(ImageDraw.Draw(image), person)
    return image


def _behind(image: Image.Image, person: Pedestrian) -> Image.Image:
    """Draw the print and the hood of a hoodie on the back of the torso."""
    image = _rolled(image)
    draw = ImageDraw.Draw(image)
    middle = COLUMNS / 2
    if person.back_colour is not None:
        quarter = COLUMNS / 4
        draw.rectangle((middle - quarter, 0, middle + quarter, ROWS), fill=person.back_colour)
    stamp(draw, person.back_print, (middle - 19, 22, middle + 19, 64), ink(person))
    if person.upper == "hoodie" and person.hat != "hood":
        draw.ellipse((middle - 16, -12, middle + 16, 20), fill=scaled(person.upper_colour, 0.7))
    return _rolled(image)


def _rolled(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), image.width // 2, axis=1))


def _straps(draw: ImageDraw.ImageDraw, person: Pedestrian) -> None:
    middle = COLUMNS / 2
    dark = scaled(person.carried_colour, 0.8)
    if person.carried == "backpack":
        for side in (-1, 1):
            x = middle + side * 17
            draw.line([(x, 0), (x + side * 3, ROWS * 0.6)], fill=dark, width=6)
    if person.carried == "shoulderbag":  # from the right shoulder to the left hip
        draw.line([(middle - 20, 4), (middle + 30, ROWS * 0.9)], fill=dark, width=6)
        draw.line([(8, 4), (-30, ROWS * 0.9)], fill=dark, width=6)
        draw.line([(COLUMNS + 8, 4), (COLUMNS - 30, ROWS * 0.9)], fill=dark, width=6)


def _sleeve(person: Pedestrian) -> Image.Image:
    colour = person.accent if person.pattern == "block" else person.upper_colour
    image = flat(colour, 32, 32)
    if person.pattern in ("rings", "checks", "pales", "dots"):
        pattern(image, person, 0.55)
    if person.pattern == "halves":
        image.paste(person.accent, (16, 0, 32, 32))
    ImageDraw.Draw(image).rectangle((0, 29, 32, 32), fill=scaled(colour, 0.7))
    return image


def _pelvis(person: Pedestrian) -> Image.Image:
    image = flat(person.lower_colour, 24, COLUMNS)
    ImageDraw.Draw(image).rectangle((0, 0, COLUMNS, 6), fill=scaled(person.lower_colour, 0.55))
    return image


def _leg(person: Pedestrian) -> Image.Image:
    """Draw a trouser leg; stripes are on both sides (the inner one is hardly visible)."""
    image = flat(person.lower_colour, 48, 64)
    draw = ImageDraw.Draw(image)
    if person.lower == "jeans":  # worn at the front
        draw.ellipse((19, 8, 45, 44), fill=scaled(person.lower_colour, 1.14))
    if person.side_stripe:
        for x in (16, 48):
            draw.rectangle((x - 5, 0, x + 5, 48), fill=person.accent)
    return image
