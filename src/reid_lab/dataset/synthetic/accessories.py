"""Textures of heads, hats, shoes and bags; see `garments` for the layout of a texture."""

from __future__ import annotations

from PIL import Image, ImageDraw

from reid_lab.dataset.synthetic.palette import scaled
from reid_lab.dataset.synthetic.person import Pedestrian
from reid_lab.dataset.synthetic.prints import flat


def head(person: Pedestrian) -> Image.Image:
    """Draw the face at the front and hair around it."""
    skin, hair = person.skin, person.hair_colour
    image = flat(skin, 64, 64)
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


def hat(person: Pedestrian) -> Image.Image:
    """Draw a hat, or the hood in the colour of the upper garment."""
    image = flat(person.hat_colour, 32, 64)
    if person.hat in ("beanie", "hat"):
        band = scaled(person.hat_colour, 0.6)
        ImageDraw.Draw(image).rectangle((0, 24, 64, 32), fill=band)
    if person.hat == "hood":
        image.paste(person.upper_colour, (0, 0, 64, 32))
    return image


def shoe(person: Pedestrian) -> Image.Image:
    """Draw a shoe in a single colour."""
    return flat(person.shoes, 8, 16)


def bag(person: Pedestrian) -> Image.Image:
    """Draw a bag with a seam and pockets."""
    image = flat(person.carried_colour, 32, 64)
    draw = ImageDraw.Draw(image)
    seam = scaled(person.carried_colour, 0.6)
    draw.rectangle((0, 8, 64, 10), fill=seam)
    for x in (0, 20, 64):
        draw.rectangle((x - 7, 16, x + 7, 27), outline=seam, width=2)
    return image
