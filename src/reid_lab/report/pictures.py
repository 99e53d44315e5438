"""Ranked lists as images: thumbnails for the page, and one image of all lists."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont, ImageOps

from reid_lab.dataset.images import decode
from reid_lab.dataset.records import DatasetError
from reid_lab.results.queries import ImageCrop, RankedImage, RankedQuery

SIZE = (64, 128)  # width and height of a thumbnail in pixels, whatever the size of the images
RIGHT, WRONG = "#1a7f37", "#cf222e"
GAP, FRAME, LABEL, HEAD, COLUMNS = 8, 4, 84, 44, 2
LARGEST = 100_000_000  # pixels of the image of all lists
WORST = "worst"
GROUPS = {"easy": "Easy queries", "hard": "Hard queries", "sample": "A sample of queries"}
GROUPS[WORST] = "Worst queries"


def by_group(queries: Sequence[RankedQuery]) -> dict[str, list[RankedQuery]]:
    """Queries under their group's heading, in order of appearance."""
    groups: dict[str, list[RankedQuery]] = {}
    for query in queries:
        groups.setdefault(GROUPS.get(query.group, query.group), []).append(query)
    return groups


def thumbnail(crop: ImageCrop) -> Image.Image | None:
    """The image, cropped to a thumbnail; None if it cannot be read."""
    try:
        if not crop.path.is_file():  # reading a pipe or a device would not end
            return None
        return ImageOps.fit(Image.fromarray(decode(*crop)), SIZE)
    except (DatasetError, ValueError, OSError, ArithmeticError, MemoryError):
        return None


def data_uri(crop: ImageCrop) -> str:
    """The thumbnail as a JPEG in a data URI; empty if the image cannot be read."""
    image = thumbnail(crop)
    if image is None:
        return ""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ranked_jpg(queries: Sequence[RankedQuery]) -> bytes | None:
    """All queries with their ranked lists in one JPEG, by group; None if it is too large."""
    if not queries:
        return None
    columns = min(COLUMNS, len(queries))
    width, height = _block_size(queries)
    groups = by_group(queries)
    lines = sum(-(-len(group) // columns) for group in groups.values())
    size = columns * width + GAP, lines * height + len(groups) * HEAD + GAP
    if size[0] * size[1] > LARGEST:
        return None
    sheet = Image.new("RGB", size, "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for heading, group in groups.items():
        draw.text((2 * GAP, top + HEAD // 2), heading, "black", font(22), anchor="lm")
        top += HEAD
        for index, query in enumerate(group):
            row, column = divmod(index, columns)
            _block(sheet, query, column * width + 2 * GAP, top + row * height)
        top += -(-len(group) // columns) * height
    buffer = io.BytesIO()  # a PNG of photographs takes three times the bytes
    sheet.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _block_size(queries: Sequence[RankedQuery]) -> tuple[int, int]:
    """Width and height that hold the largest of the queries."""
    rows = max((len(query.ranked) for query in queries), default=1)
    shots = max((len(list_) for query in queries for list_ in query.ranked.values()), default=0)
    width = (shots + 1) * (SIZE[0] + GAP) + LABEL + 4 * GAP
    return width, max(rows, 1) * (SIZE[1] + GAP) + 2 * GAP


def _block(sheet: Image.Image, query: RankedQuery, left: int, top: int) -> None:
    """A query at the left; to its right, one row of thumbnails per exit."""
    draw = ImageDraw.Draw(sheet)
    _paste(sheet, query.image, left, top)
    draw.rectangle(_box(left, top), outline="black", width=2)
    draw.text((left + SIZE[0] // 2, top + SIZE[1] + 4), "query", "black", font(13), anchor="ma")
    for row, (name, shots) in enumerate(query.ranked.items()):
        y = top + row * (SIZE[1] + GAP)
        x = left + SIZE[0] + GAP + LABEL
        draw.text((x - GAP, y + SIZE[1] // 2), name, "black", font(15), anchor="rm")
        for rank, shot in enumerate(shots):
            _shot(sheet, shot, x + rank * (SIZE[0] + GAP), y)


def _shot(sheet: Image.Image, shot: RankedImage, left: int, top: int) -> None:
    """A thumbnail in a green frame with a check mark, or in a red one with a cross."""
    colour, mark = (RIGHT, "✓") if shot.match else (WRONG, "✗")
    draw = ImageDraw.Draw(sheet)
    _paste(sheet, shot.image, left, top)
    draw.rectangle(_box(left, top), outline=colour, width=FRAME)
    draw.rectangle((left, top, left + 20, top + 20), fill=colour)
    draw.text((left + 10, top + 10), mark, "white", font(16), anchor="mm")


def _paste(sheet: Image.Image, crop: ImageCrop, left: int, top: int) -> None:
    sheet.paste(thumbnail(crop) or Image.new("RGB", SIZE, "#dddddd"), (left, top))


def _box(left: int, top: int) -> tuple[int, int, int, int]:
    return left, top, left + SIZE[0] - 1, top + SIZE[1] - 1


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    return ImageFont.truetype(findfont("DejaVu Sans"), size)
