"""Occlusions: objects and people between the camera and the person."""

from __future__ import annotations

from collections.abc import Callable
from math import pi

import numpy as np
from PIL import Image, ImageDraw

from reid_lab.dataset.synthetic import palette
from reid_lab.dataset.synthetic.draw import Canvas
from reid_lab.dataset.synthetic.keys import Population
from reid_lab.dataset.synthetic.person import FIRST_PASSERBY, PASSERSBY, Pedestrian, person

Painter = Callable[[ImageDraw.ImageDraw, np.random.Generator, int, int], None]
DrawPedestrian = Callable[
    [Pedestrian, float, float], None
]  # person, horizontal position (0 to 1), heading


def occlude(
    canvas: Canvas, rng: np.random.Generator, seed: int, draw_pedestrian: DrawPedestrian
) -> None:
    """Draw an occluder onto the canvas, in 20% of the images.

    Args:
        draw_pedestrian: draws another person.
    """
    chance = rng.random()
    if chance < 0.07:
        canvas.put_behind()
        other = passerby(seed, rng)
        x = float(rng.choice([-0.08, 1.08]))
        draw_pedestrian(other, x, float(rng.uniform(-pi, pi)))
    elif chance < 0.2:
        _overlay(canvas, (_post, _car, _bicycle, _bush, _bin)[int(rng.integers(5))], rng)


def half_seen(
    canvas: Canvas, rng: np.random.Generator, seed: int, draw_pedestrian: DrawPedestrian
) -> None:
    """Cover a good part of the person: the lower part, a side, or by another person."""
    if rng.random() < 0.4:
        canvas.put_behind()
        x = 0.5 + float(rng.choice([-1, 1])) * float(rng.uniform(0.22, 0.42))
        draw_pedestrian(passerby(seed, rng), x, float(rng.uniform(-pi, pi)))
    else:
        _overlay(canvas, (_counter, _pillar)[int(rng.integers(2))], rng)


def passerby(seed: int, rng: np.random.Generator) -> Pedestrian:
    """Draw one of a few people who match no query."""
    index = FIRST_PASSERBY + int(rng.integers(PASSERSBY))
    return person(seed, 0.0, Population.PASSERBY, index)


def _overlay(canvas: Canvas, kind: Painter, rng: np.random.Generator) -> None:
    """Draw an object in front of all."""
    image = Image.new("RGBA", (canvas.width, canvas.height), (0, 0, 0, 0))
    kind(ImageDraw.Draw(image), rng, canvas.width, canvas.height)
    pixels = np.asarray(image).reshape(-1, 4)
    solid = np.flatnonzero(pixels[:, 3])
    first = canvas.texels(pixels[:, :3].T.astype(np.float32, order="C"))
    canvas.texel[solid] = solid + first
    canvas.shade[solid] = 1
    canvas.depth[solid] = np.inf


def _counter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    top, colour = h * float(rng.uniform(0.5, 0.75)), palette.pick(rng, palette.CLOTH)
    draw.rectangle((0, top, w, h), fill=palette.scaled(colour, 0.8))
    draw.rectangle((0, top, w, top + h * 0.03), fill=colour)


def _pillar(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    colour, wide = palette.vary(rng, (150, 146, 140), 2), w * float(rng.uniform(0.3, 0.5))
    left = 0.0 if rng.random() < 0.5 else w - wide
    draw.rectangle((left, 0, left + wide, h), fill=colour)
    draw.rectangle((left, 0, left + wide * 0.3, h), fill=palette.scaled(colour, 0.8))


def _post(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    x, half = w * float(rng.uniform(0.1, 0.9)), w * float(rng.uniform(0.04, 0.08))
    grey = palette.vary(rng, (112, 114, 116), 2)
    draw.rectangle((x - half, 0, x + half, h), fill=grey)
    draw.rectangle((x - half * 0.5, 0, x, h), fill=palette.scaled(grey, 1.3))


def _car(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    paint, top = palette.pick(rng, palette.CLOTH), h * float(rng.uniform(0.72, 0.85))
    draw.rounded_rectangle((-w * 0.2, top, w * 1.2, h * 1.2), w * 0.2, fill=paint)
    draw.rounded_rectangle((-w * 0.2, top, w * 1.2, top + h * 0.03), w * 0.05,
                           fill=palette.scaled(paint, 1.3))  # fmt: skip
    for x in (0.12, 0.88):
        draw.ellipse((w * (x - 0.1), h * 0.9, w * (x + 0.1), h * 0.96), fill=(232, 230, 210))


def _bicycle(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    x, y, r = w * float(rng.uniform(-0.1, 0.5)), h * 0.86, h * 0.11
    frame = palette.pick(rng, palette.CLOTH)
    line = max(2, w // 36)
    for cx in (x, x + 2.6 * r):
        draw.ellipse((cx - r, y - r, cx + r, y + r), outline=(24, 24, 26), width=line + 1)
    pedal, saddle, bar = (x + 1.2 * r, y), (x + 0.8 * r, y - 1.3 * r), (x + 2.2 * r, y - 1.4 * r)
    for a, b in (((x, y), pedal), ((x, y), saddle), (pedal, saddle), (pedal, bar), (saddle, bar),
                 ((x + 2.6 * r, y), bar)):  # fmt: skip
        draw.line([a, b], fill=frame, width=line)
    draw.ellipse((saddle[0] - r * 0.3, saddle[1] - r * 0.15, saddle[0] + r * 0.3, saddle[1]),
                 fill=(20, 20, 22))  # fmt: skip


def _bush(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    top = h * float(rng.uniform(0.72, 0.88))
    for _ in range(60):
        x, r = rng.uniform(0, w), rng.uniform(0.05, 0.12) * w
        y = top + abs(rng.normal(0, 0.12)) * h
        leaf = palette.scaled((74, 108, 56), float(rng.uniform(0.6, 1.3)))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=leaf)


def _bin(draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: int, h: int) -> None:
    x, colour = w * float(rng.choice([0.1, 0.9])), palette.vary(rng, (60, 92, 70), 2)
    draw.rectangle((x - w * 0.2, h * 0.7, x + w * 0.2, h), fill=colour)
    draw.rectangle(
        (x - w * 0.22, h * 0.68, x + w * 0.22, h * 0.71), fill=palette.scaled(colour, 0.6)
    )
