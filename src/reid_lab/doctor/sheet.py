"""A contact sheet of people: one row per person, one image per camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from reid_lab.dataset.images import decode
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.files.regular import escaped
from reid_lab.report.pictures import font

CELL = (96, 192)  # width and height of an image at most
GAP, TOP = 10, 40  # pixels between images; for the columns' labels
PAPER, NOTHING, INK, FAINT = "white", "#f1f2f4", "#1d2129", "#7a828e"


@dataclass(frozen=True)
class PersonViews:
    """The images of a person: (split, index) by camera; `part` is train or test."""

    pid: int
    part: str
    views: dict[int, list[tuple[Split, int]]]


def sheet(benchmark: Benchmark, people: int = 8, seed: int = 0) -> Image.Image:
    """A sheet of random people; a cell is empty if the camera did not see the person.

    Raises:
        DatasetError: there are no people.
    """
    chosen = _choose(benchmark, people, seed)
    columns = sorted({camid for person in chosen for camid in person.views})
    labels = [(_short(benchmark.person_name(person.pid)), person.part) for person in chosen]
    edge = GAP + 14 + max(int(font(20).getlength(max(two, key=len))) for two in labels)
    wide, high = CELL[0] + GAP, CELL[1] + GAP
    size = (edge + len(columns) * wide + GAP, TOP + len(chosen) * high + GAP)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    for x, camid in enumerate(columns):
        middle = edge + x * wide + CELL[0] / 2
        label = _short(benchmark.camera_name(camid), 9) if benchmark.cameras else f"camera {camid}"
        draw.text((middle, TOP / 2 + 2), label, INK, font(15), anchor="mm")
    rng = np.random.default_rng(seed)
    for y, person in enumerate(chosen):
        top = TOP + y * high
        middle = top + CELL[1] / 2
        draw.text((edge - 14, middle - 9), labels[y][0], INK, font(20), anchor="rm")
        draw.text((edge - 14, middle + 13), person.part, FAINT, font(13), anchor="rm")
        for x, camid in enumerate(columns):
            corner = (edge + x * wide, top)
            _put(page, draw, corner, _image(person.views.get(camid, []), rng))
    return page


def _short(name: str, most: int = 20) -> str:
    name = escaped(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _choose(benchmark: Benchmark, people: int, seed: int) -> list[PersonViews]:
    train, tests = benchmark.train, (benchmark.query, benchmark.gallery)
    tested = np.union1d(*(split.identities for split in tests))
    everyone = np.union1d(train.identities, tested)
    if not len(everyone):
        raise DatasetError(f"{benchmark.name}: no people for the sheet, no pid is above 0")
    count = min(people, len(everyone))
    pids = np.sort(np.random.default_rng(seed).choice(everyone, count, replace=False))
    known = set(train.identities.tolist())
    return [
        _person(pid, "train", (train,)) if pid in known else _person(pid, "test", tests)
        for pid in pids.tolist()
    ]


def _person(pid: int, part: str, splits: Sequence[Split]) -> PersonViews:
    views: dict[int, list[tuple[Split, int]]] = {}
    for split in splits:
        for i in np.flatnonzero(split.pids == pid).tolist():
            views.setdefault(int(split.camids[i]), []).append((split, i))
    return PersonViews(pid, part, views)


def _image(images: Sequence[tuple[Split, int]], rng: np.random.Generator) -> Image.Image | None:
    """A random image that can be decoded, fitted to a cell."""
    for choice in rng.permutation(len(images)):
        split, index = images[choice]
        try:
            pixels = decode(split.path(index), split.box(index))
        except DatasetError:
            continue
        if pixels.size:
            return _fitted(Image.fromarray(pixels))
    return None


def _fitted(image: Image.Image) -> Image.Image:
    scale = min(CELL[0] / image.width, CELL[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _put(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    image: Image.Image | None,
) -> None:
    left, top = corner
    if image is None:
        far = (left + CELL[0] - 1, top + CELL[1] - 1)
        draw.rounded_rectangle((corner, far), 6, NOTHING)
        return
    page.paste(image, (left + (CELL[0] - image.width) // 2, top + (CELL[1] - image.height) // 2))
