"""Cloth, plain or with patterns and prints; see `garments` for the layout of a texture."""

from __future__ import annotations

from PIL import Image, ImageDraw

from reid_lab.dataset.synthetic.palette import RGB
from reid_lab.dataset.synthetic.person import Pedestrian

ROWS, COLUMNS = 96, 128  # pixels of a torso; COLUMNS is the whole way around
Rectangle = tuple[float, float, float, float]


def flat(colour: RGB, rows: int = 4, columns: int = 8) -> Image.Image:
    """Return a texture of one colour."""
    return Image.new("RGB", (columns, rows), colour)


def pattern(image: Image.Image, person: Pedestrian, scale: float = 1.0) -> None:
    """Draw the pattern of the upper garment; `scale` adapts the period to the tube's length."""
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


def ink(person: Pedestrian) -> RGB:
    """Return the colour of prints: the accent on plain cloth, else black or white by contrast."""
    if person.pattern == "plain":
        return person.accent
    return (240, 240, 238) if sum(person.upper_colour) < 330 else (24, 24, 28)


def stamp(draw: ImageDraw.ImageDraw, kind: str, box: Rectangle, fill: RGB) -> None:
    """Draw a logo of this kind in the rectangle."""
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
