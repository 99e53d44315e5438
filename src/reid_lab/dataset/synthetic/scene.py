"""Backgrounds: one panorama per camera, from which each image gets a random window."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reid_lab.dataset.synthetic.draw import Floats, Pixels
from reid_lab.dataset.synthetic.keys import Domain, stream
from reid_lab.dataset.synthetic.palette import CLOTH, LEGWEAR, RGB, pick, scaled, vary

HAZE = np.float32(140)  # grey level that distant objects fade to
SECTIONS, SPAN, RISE = 4, 3, 1.25  # scenes side by side; width and height of one, in images


@lru_cache(maxsize=32)
def panorama(
    seed: int, camid: int, horizon: float, height: int, width: int, variation: float
) -> Pixels:
    """Draw the surroundings of a camera, (3, RISE * height, SECTIONS * SPAN * width) uint8.

    Args:
        horizon: height at which the ground begins, as a fraction of the image height.
        variation: 1 has full contrast and objects in the colours of clothes, 0 has neither.
    """
    rng = stream(seed, Domain.SCENE, camid)
    kinds = rng.permutation(sorted(_PAINTERS))[:SECTIONS]
    sections = [_section(rng, str(kind), horizon, height, width) for kind in kinds]
    wide = np.concatenate(sections, axis=1).astype(np.float32)
    if variation > 0:
        wide = _crowded(wide, stream(seed, Domain.VARIATION, 2, camid), variation)
    grey = wide.mean(axis=2, keepdims=True)  # paler than the people, as if distant
    pale, contrast = np.float32(0.5 * (1 - variation)), np.float32(0.68 + 0.3 * variation)
    wide = HAZE + contrast * ((1 - pale) * wide + pale * grey - HAZE)
    h, w = wide.shape[:2]
    sun = rng.uniform(0.55, 1.3, (3, w // width)).astype(np.float32)  # sun and shade
    field = Image.fromarray(sun).resize((w, h), Image.Resampling.BICUBIC)
    speckle = rng.normal(0, 5, (h, w, 1))
    wide = np.clip(wide * np.asarray(field)[..., None] + speckle, 0, 255)
    result: Pixels = np.ascontiguousarray(wide.transpose(2, 0, 1).astype(np.uint8))
    return result


def _crowded(wide: Floats, rng: np.random.Generator, amount: float) -> Floats:
    """Add boards, bags and blurred far figures in the colours of clothes."""
    h, w = wide.shape[:2]
    image = Image.fromarray(wide.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(round(amount * w / h * 14)):
        x, y = float(rng.uniform(0, w)), float(rng.uniform(0.1, 0.9)) * h
        wide_, tall = h * float(rng.uniform(0.03, 0.14)), h * float(rng.uniform(0.05, 0.4))
        colour = pick(rng, CLOTH if rng.random() < 0.7 else LEGWEAR)
        if rng.random() < 0.5:
            draw.rectangle((x, y, x + wide_, y + tall), fill=colour)
        else:
            draw.ellipse((x, y, x + wide_, y + tall), fill=colour)
            draw.rectangle((x, y + tall / 2, x + wide_, y + tall * 1.2), fill=pick(rng, LEGWEAR))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(h / 200)), np.float32)


def _section(
    rng: np.random.Generator, kind: str, horizon: float, height: int, width: int
) -> Pixels:
    """Draw one scene, (RISE * height, SPAN * width, 3), at twice the size, and reduce it."""
    w, h = SPAN * width, int(RISE * height)
    image = Image.new("RGB", (2 * w, 2 * h))
    line = int(2 * h * (0.1 + horizon / RISE))
    _PAINTERS[kind](ImageDraw.Draw(image), rng, 2 * w, 2 * h, line)
    image = image.resize((w, h), Image.Resampling.BOX)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(height / 128)))


def _street(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: float, h: float, line: float
) -> None:
    wall = vary(rng, (168, 138, 118), 2)
    draw.rectangle((0, 0, w, line), fill=wall)
    course = max(6, int(h) // 26)
    for row, y in enumerate(range(0, int(line), int(course))):
        draw.line((0, y, w, y), fill=scaled(wall, 0.86), width=2)
        for joint in range((row % 2) * course, int(w), 2 * course):
            draw.line((joint, y, joint, y + course), fill=scaled(wall, 0.88), width=2)
    for x in _positions(rng, w, h * 0.5):
        draw.rectangle(
            (x, line * 0.1, x + h * 0.22, line * 0.75),
            fill=(70, 82, 96),
            outline=(206, 202, 196),
            width=5,
        )
    ground = vary(rng, (142, 140, 138), 0.6)
    _ground(draw, w, h, line, ground)
    draw.rectangle((0, line, w, line + h * 0.02), fill=scaled(ground, 0.7))


def _park(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: float, h: float, line: float
) -> None:
    draw.rectangle((0, 0, w, h), fill=vary(rng, (96, 122, 84)))
    for _ in range(260):
        x, y, r = rng.uniform(0, w), rng.uniform(0, line), rng.uniform(0.02, 0.07) * h
        leaf = scaled((78, 112, 58), float(rng.uniform(0.55, 1.35)))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=leaf)
    for x in _positions(rng, w, h * 0.4):
        t = h * float(rng.uniform(0.02, 0.04))
        draw.rectangle((x - t, 0, x + t, line + h * 0.03), fill=vary(rng, (88, 66, 48)))
    grass = vary(rng, (116, 146, 78))
    draw.rectangle((0, line, w, h), fill=grass)
    for _ in range(1500):
        x, y = rng.uniform(0, w), rng.uniform(line, h)
        draw.line(
            (x, y, x + 2, y - h * 0.02), fill=scaled(grass, float(rng.uniform(0.75, 1.2))), width=2
        )
    draw.polygon(
        [(0, h * 0.86), (w, h * 0.74), (w, h * 0.96), (0, h)], fill=vary(rng, (176, 160, 134))
    )


def _corridor(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: float, h: float, line: float
) -> None:
    wall = vary(rng, (206, 204, 192), 0.8)
    draw.rectangle((0, 0, w, line), fill=wall)
    draw.rectangle((0, line * 0.62, w, line), fill=scaled(wall, 0.86))
    for x in _positions(rng, w, h * 0.55):
        door = vary(rng, (136, 104, 74), 2)
        draw.rectangle(
            (x, line * 0.08, x + h * 0.26, line), fill=door, outline=scaled(door, 0.6), width=5
        )
        draw.ellipse(
            (x + h * 0.21, line * 0.55, x + h * 0.23, line * 0.55 + h * 0.02), fill=(220, 210, 170)
        )
    floor = vary(rng, (164, 160, 152), 0.8)
    _ground(draw, w, h, line, floor)
    for x in _positions(rng, w, h * 0.45):  # reflections of lamps
        draw.ellipse((x, line + h * 0.1, x + h * 0.2, line + h * 0.16), fill=scaled(floor, 1.16))
    draw.rectangle((0, line - h * 0.015, w, line), fill=scaled(wall, 0.5))


def _shops(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: float, h: float, line: float
) -> None:
    draw.rectangle((0, 0, w, line), fill=(96, 92, 92))
    x = 0.0
    while x < w:
        wide = h * float(rng.uniform(0.45, 0.8))
        sign = vary(
            rng, ((176, 52, 52), (44, 96, 150), (62, 118, 74), (214, 170, 66))[int(rng.integers(4))]
        )
        draw.rectangle((x, line * 0.02, x + wide - 8, line * 0.2), fill=sign)
        glass = scaled((150, 164, 168), float(rng.uniform(0.6, 1.3)))
        draw.rectangle((x + 6, line * 0.24, x + wide - 14, line * 0.92), fill=glass)
        for _ in range(5):  # goods behind the glass
            gx, gy = x + rng.uniform(0.1, 0.8) * wide, line * rng.uniform(0.5, 0.8)
            goods = vary(rng, (150, 120, 110), 4)
            draw.rectangle((gx, gy, gx + wide * 0.1, line * 0.9), fill=goods)
        draw.line(
            (x + wide * 0.3, line * 0.24, x + wide * 0.15, line * 0.9),
            fill=scaled(glass, 1.2),
            width=6,
        )
        x += wide
    _ground(draw, w, h, line, vary(rng, (160, 152, 146), 0.6))


def _carpark(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: float, h: float, line: float
) -> None:
    draw.rectangle((0, 0, w, line), fill=vary(rng, (176, 186, 194)))
    draw.rectangle((0, line * 0.55, w, line), fill=vary(rng, (120, 124, 118)))
    tarmac = vary(rng, (98, 98, 102), 0.6)
    draw.rectangle((0, line, w, h), fill=tarmac)
    for left in range(0, int(w), int(h * 0.42)):
        x = float(left)
        draw.polygon(
            [(x, line), (x + 8, line), (x - h * 0.08, h), (x - h * 0.1, h)], fill=(206, 206, 202)
        )
    for x in _positions(rng, w, h * 0.62):
        paint = vary(
            rng, ((150, 40, 40), (50, 70, 110), (190, 190, 194), (46, 46, 50))[int(rng.integers(4))]
        )
        y, long, tall = line + h * 0.02, h * 0.4, h * 0.13
        draw.rounded_rectangle((x, y - tall, x + long, y), h / 40, fill=paint)
        roof = [(0.15, 1.0), (0.28, 1.8), (0.72, 1.8), (0.88, 1.0)]
        draw.polygon([(x + long * a, y - tall * b) for a, b in roof], fill=(60, 70, 78))
        for wheel in (0.2, 0.8):
            cx, r = x + long * wheel, h * 0.032
            draw.ellipse(
                (cx - r, y - r, cx + r, y + r), fill=(28, 28, 30), outline=(130, 130, 130), width=3
            )


def _plaza(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, w: float, h: float, line: float
) -> None:
    draw.rectangle((0, 0, w, line), fill=vary(rng, (196, 202, 208)))
    for x in _positions(rng, w, h * 0.35):  # far facades
        facade = vary(rng, (170, 160, 150), 1.5)
        draw.rectangle((x, line * 0.1, x + h * 0.3, line), fill=facade)
        for k in range(3):
            y = line * (0.2 + 0.25 * k)
            for j in range(3):
                left = x + h * (0.03 + 0.09 * j)
                draw.rectangle(
                    (left, y, left + h * 0.05, y + line * 0.12), fill=scaled(facade, 0.55)
                )
    _ground(draw, w, h, line, vary(rng, (182, 172, 156), 0.8))
    for x in _positions(rng, w, h * 0.9):  # benches
        draw.rectangle((x, line + h * 0.06, x + h * 0.25, line + h * 0.085), fill=(112, 82, 54))
        draw.rectangle(
            (x + h * 0.02, line + h * 0.085, x + h * 0.035, line + h * 0.13), fill=(60, 60, 60)
        )
        draw.rectangle(
            (x + h * 0.21, line + h * 0.085, x + h * 0.225, line + h * 0.13), fill=(60, 60, 60)
        )


_PAINTERS = {
    "street": _street,
    "park": _park,
    "corridor": _corridor,
    "shops": _shops,
    "carpark": _carpark,
    "plaza": _plaza,
}


def _ground(draw: ImageDraw.ImageDraw, w: float, h: float, line: float, colour: RGB) -> None:
    """Draw a floor that gets brighter and its joints wider towards the camera."""
    for row in range(int(line), int(h), 4):
        near = (row - line) / max(1, h - line)
        draw.rectangle((0, row, w, row + 4), fill=scaled(colour, 0.9 + 0.14 * near))
    joint = scaled(colour, 0.84)
    y, gap = float(line), h * 0.03
    while y < h:
        draw.line((0, y, w, y), fill=joint, width=2)
        y, gap = y + gap, gap * 1.35
    for foot in range(-int(w), int(2 * w), int(h * 0.16)):
        draw.line((foot, line, foot + (foot - w / 2) * 0.5, h), fill=joint, width=2)


def _positions(rng: np.random.Generator, w: float, gap: float) -> list[float]:
    """Return positions along the width, about `gap` apart."""
    return [float((k + rng.uniform(0, 0.6)) * gap) for k in range(int(w / gap) + 1)]
