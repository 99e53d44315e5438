"""Textures: cloth, faces, and bags, unwrapped from the tubes that wear them.

Every texture is (rows, columns, 3) float32, 0-255. Rows run along the tube; columns run around
it: the middle is the person's front, right of it their left side, the outer edge their back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from reid_lab.dataset.synthetic.draw import Floats
from reid_lab.dataset.synthetic.palette import RGB, scaled
from reid_lab.dataset.synthetic.person import Person

ROWS, COLUMNS = 96, 128  # of a torso; COLUMNS is the whole way around
Box = tuple[float, float, float, float]


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


@lru_cache(maxsize=64)
def wardrobe(person: Person) -> Wardrobe:
    """All textures of this person; they depend on nothing else."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(person.hair_colour)))
    skirt_colour = person.upper_colour if person.lower == "dress" else person.lower_colour
    skirt = _flat(skirt_colour, 48, COLUMNS)
    if person.lower == "dress":
        _pattern(skirt, person, scale=0.6)
    return Wardrobe(
        torso=_folded(_torso(person), rng, 0.07),
        sleeve=_folded(_sleeve(person), rng, 0.08),
        pelvis=_folded(_pelvis(person), rng, 0.05),
        leg=_folded(_leg(person), rng, 0.1),
        skirt=_folded(skirt, rng, 0.12),
        head=_plain_array(_head(person)),
        skin=_plain_array(_flat(person.skin)),
        hair=_folded(_flat(person.hair_colour, 24, 48), rng, 0.16),
        hat=_plain_array(_hat(person)),
        shoe=_plain_array(_shoe(person)),
        bag=_folded(_bag(person), rng, 0.05),
    )


def _flat(colour: RGB, rows: int = 4, columns: int = 8) -> Image.Image:
    return Image.new("RGB", (columns, rows), colour)


def _plain_array(image: Image.Image) -> Floats:
    return np.asarray(image, np.float32)


def _folded(image: Image.Image, rng: np.random.Generator, depth: float) -> Floats:
    """The cloth with soft folds: smooth noise, longer along the tube than around it."""
    rows, columns = image.height, image.width
    coarse = rng.normal(1.0, depth, (max(3, rows // 14), max(4, columns // 9))).astype(np.float32)
    coarse[:, -1] = coarse[:, 0]  # closes at the back
    folds = Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) * np.asarray(folds, np.float32)[..., None]


def _pattern(image: Image.Image, person: Person, scale: float = 1.0) -> None:
    """Draw the pattern of the upper garment; `scale` shrinks the period to the tube's length."""
    draw, size = ImageDraw.Draw(image), person.pattern_size
    rows, columns, accent = image.height, image.width, person.accent
    rings = max(2, round(5 * size * scale))
    pales = max(4, round(11 * size * columns / COLUMNS))
    if person.pattern in ("rings", "checks"):
        for k in range(rings):
            y = rows * (k + 0.5) / rings
            draw.rectangle((0, y, columns, y + rows / rings * 0.45), fill=accent)
    if person.pattern in ("pales", "checks"):
        thick = 0.4 if person.pattern == "pales" else 0.3
        for k in range(pales):
            x = columns * (k + 0.3) / pales
            draw.rectangle((x, 0, x + columns / pales * thick, rows), fill=accent)
    if person.pattern == "dots":
        _dots(draw, rows, columns, rings, pales, accent)
    if person.pattern == "halves":
        draw.rectangle((columns / 2, 0, columns, rows), fill=accent)


def _dots(
    draw: ImageDraw.ImageDraw, rows: int, columns: int, down: int, around: int, fill: RGB
) -> None:
    for k in range(down):
        for j in range(around):
            x = columns * (j + 0.5 * (k % 2) + 0.25) / around
            y = rows * (k + 0.5) / down
            rx, ry = columns / around * 0.27, rows / down * 0.3
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)


def _torso(person: Person) -> Image.Image:
    image = _flat(person.upper_colour, ROWS, COLUMNS)
    draw = ImageDraw.Draw(image)
    _pattern(image, person)
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
        _stamp(draw, person.logo, (middle - 15, 26, middle + 15, 56), _ink(person))
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


def _behind(image: Image.Image, person: Person) -> Image.Image:
    """The torso with its back print, and the hood of a hoodie, drawn on the back."""
    image = _rolled(image)
    draw = ImageDraw.Draw(image)
    middle = COLUMNS / 2
    _stamp(draw, person.back_print, (middle - 19, 22, middle + 19, 64), _ink(person))
    if person.upper == "hoodie" and person.hat != "hood":
        draw.ellipse((middle - 16, -12, middle + 16, 20), fill=scaled(person.upper_colour, 0.7))
    return _rolled(image)


def _rolled(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), image.width // 2, axis=1))


def _ink(person: Person) -> RGB:
    """Print colour: the accent on plain cloth, else black or white, whichever is readable."""
    if person.pattern == "plain":
        return person.accent
    return (240, 240, 238) if sum(person.upper_colour) < 330 else (24, 24, 28)


def _stamp(draw: ImageDraw.ImageDraw, kind: str, box: Box, fill: RGB) -> None:
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    if kind == "disc":
        draw.ellipse(box, fill=fill)
    elif kind == "bars":
        for k in range(3):
            draw.rectangle((x0, y0 + h * (k * 0.38), x1, y0 + h * (k * 0.38 + 0.2)), fill=fill)
    elif kind == "cross":
        draw.rectangle((x0 + w * 0.33, y0, x1 - w * 0.33, y1), fill=fill)
        draw.rectangle((x0, y0 + h * 0.33, x1, y1 - h * 0.33), fill=fill)
    elif kind == "wedge":
        draw.polygon([(x0, y0), (x1, y0), ((x0 + x1) / 2, y1)], fill=fill)
    elif kind == "frame":
        draw.rectangle(box, outline=fill, width=round(w * 0.2))


def _straps(draw: ImageDraw.ImageDraw, person: Person) -> None:
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


def _sleeve(person: Person) -> Image.Image:
    colour = person.accent if person.pattern == "block" else person.upper_colour
    image = _flat(colour, 32, 32)
    if person.pattern in ("rings", "checks", "pales", "dots"):
        _pattern(image, person, 0.55)
    if person.pattern == "halves":
        image.paste(person.accent, (16, 0, 32, 32))
    ImageDraw.Draw(image).rectangle((0, 29, 32, 32), fill=scaled(colour, 0.7))
    return image


def _pelvis(person: Person) -> Image.Image:
    image = _flat(person.lower_colour, 24, COLUMNS)
    ImageDraw.Draw(image).rectangle((0, 0, COLUMNS, 6), fill=scaled(person.lower_colour, 0.55))
    return image


def _leg(person: Person) -> Image.Image:
    """A trouser leg; the stripe is on both sides, of which the inner one is hardly seen."""
    image = _flat(person.lower_colour, 48, 48)
    draw = ImageDraw.Draw(image)
    if person.lower == "jeans":  # worn at the front
        draw.ellipse((14, 8, 34, 44), fill=scaled(person.lower_colour, 1.14))
    if person.side_stripe:
        for x in (12, 36):
            draw.rectangle((x - 4, 0, x + 4, 48), fill=person.accent)
    return image


def _head(person: Person) -> Image.Image:
    """A face at the front and hair around it."""
    skin, hair = person.skin, person.hair_colour
    image = _flat(skin, 64, 64)
    draw = ImageDraw.Draw(image)
    if person.hair != "bald":
        nape = 62 if person.hair in ("long", "bob") else 50
        draw.rectangle((0, 0, 64, 15), fill=hair)
        draw.rectangle((0, 0, 19, 30), fill=hair)
        draw.rectangle((45, 0, 64, 30), fill=hair)
        draw.rectangle((0, 0, 14, nape), fill=hair)
        draw.rectangle((50, 0, 64, nape), fill=hair)
    brow = scaled(hair, 0.8) if sum(hair) < 400 else scaled(skin, 0.6)
    for x in (27, 37):
        draw.rectangle((x - 3, 25, x + 2, 27), fill=brow)
        draw.rectangle((x - 2, 30, x + 1, 33), fill=(36, 28, 26))
    draw.rectangle((31, 31, 33, 42), fill=scaled(skin, 0.86))
    red, green, blue = scaled(skin, 0.72)
    draw.rectangle((28, 47, 36, 50), fill=(min(255, red + 30), green, blue))
    if person.glasses:
        for x in (27, 37):
            draw.rectangle((x - 4, 28, x + 3, 36), outline=(20, 20, 24), width=1)
    return image


def _hat(person: Person) -> Image.Image:
    image = _flat(person.hat_colour, 32, 64)
    if person.hat in ("beanie", "hat"):
        band = scaled(person.hat_colour, 0.6)
        ImageDraw.Draw(image).rectangle((0, 24, 64, 32), fill=band)
    if person.hat == "hood":
        image.paste(person.upper_colour, (0, 0, 64, 32))
    return image


def _shoe(person: Person) -> Image.Image:
    """Dark sole below; the columns of a lying tube run over the instep."""
    return _flat(person.shoes, 8, 16)


def _bag(person: Person) -> Image.Image:
    image = _flat(person.carried_colour, 32, 64)
    draw = ImageDraw.Draw(image)
    seam = scaled(person.carried_colour, 0.6)
    draw.rectangle((0, 8, 64, 10), fill=seam)
    for x in (0, 20, 64):
        draw.rectangle((x - 7, 16, x + 7, 27), outline=seam, width=2)
    return image
