"""List the images of a recipe and their file names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reid_lab.dataset.synthetic.image import ImageKey
from reid_lab.dataset.synthetic.keys import Domain, Population, stream
from reid_lab.dataset.synthetic.person import FIRST_PASSERBY, PASSERSBY
from reid_lab.dataset.synthetic.recipe import Recipe

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
FOLDERS = (TRAIN, QUERY, GALLERY)


@dataclass(frozen=True)
class Entry:
    """An image and its path below the root, `folder/name`."""

    folder: str
    name: str
    key: ImageKey


def plan(recipe: Recipe) -> list[Entry]:
    """List all images of the recipe, those of a person next to each other."""
    entries = [
        entry
        for split, count in (
            (Population.TRAIN, recipe.train_identities),
            (Population.TEST, recipe.test_identities),
        )
        for index in range(count)
        for entry in _person(recipe, split, index)
    ]
    return entries + list(_distractors(recipe)) + list(_junk(recipe))


def pid(split: Population, index: int) -> int:
    """Return the pid: odd for training people, even for test people, whatever their numbers."""
    return 2 * index + (1 if split is Population.TRAIN else 2)


def seen_by(recipe: Recipe, split: Population, index: int) -> list[int]:
    """Return the camids, ascending, of the cameras (two or more) that see this person."""
    rng = stream(recipe.seed, Domain.TRACK, split, index)
    count = int(rng.integers(2, recipe.cameras + 1))
    chosen = rng.choice(recipe.cameras, size=count, replace=False)
    return sorted(int(camera) + 1 for camera in chosen)


def _person(recipe: Recipe, split: Population, index: int) -> Iterator[Entry]:
    number = pid(split, index)
    for camid in seen_by(recipe, split, index):
        track = stream(recipe.seed, Domain.TRACK, split, index, camid, 0)
        first = int(track.integers(0, 90_000))
        for take in range(recipe.images_per_camera):
            folder = TRAIN if split is Population.TRAIN else QUERY if take == 0 else GALLERY
            name = _name(f"{number:04d}", camid, first + 25 * take, take)
            yield Entry(folder, name, ImageKey(split, index, camid, take))


def _distractors(recipe: Recipe) -> Iterator[Entry]:
    for k in range(recipe.distractors):
        camid = 1 + int(
            stream(recipe.seed, Domain.TRACK, Population.PASSERBY, k).integers(recipe.cameras)
        )
        yield Entry(GALLERY, _name("0000", camid, k, 0), ImageKey(Population.PASSERBY, k, camid, 0))


def _junk(recipe: Recipe) -> Iterator[Entry]:
    for k in range(recipe.junk):
        rng = stream(recipe.seed, Domain.JUNK, k)
        camid = 1 + int(rng.integers(recipe.cameras))
        index = FIRST_PASSERBY + int(rng.integers(PASSERSBY))
        key = ImageKey(Population.PASSERBY, index, camid, k, junk=True)
        yield Entry(GALLERY, _name("-1", camid, k, 0), key)


def _name(label: str, camid: int, frame: int, take: int) -> str:
    return f"{label}_c{camid}s1_{frame:06d}_{take:02d}.jpg"
