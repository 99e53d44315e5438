"""Reader of your own images in a folder per person; cameras are in file names or are folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from reid_lab.dataset.readers.files import require, skipped_note
from reid_lab.dataset.readers.own import (
    Names,
    check_parts,
    make_benchmark,
    number_labels,
    number_people,
    raise_problems,
)
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.files.regular import escaped
from reid_lab.images.files import ENDINGS, images_in, is_image
from reid_lab.protocol import JUNK
from reid_lab.types import Fraction, Seed

Layout = Literal["person", "camera/person", "person/camera"]
EXAMPLES = {
    "person": "anna/door_c1_001.jpg",
    "camera/person": "cam1/anna/001.jpg",
    "person/camera": "anna/cam1/001.jpg",
}
PARTS = ("train", "query", "gallery", "test")
# names of folders that are probably cameras
CAMERA = re.compile(r"cam(?:era)?[-_ ]?[a-z0-9]{1,3}", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFile:
    """An image file and the parts of its path; `name` is the path relative to the root."""

    part: str
    person: str
    camera: str | None
    name: str


def read_folders(
    root: Path | str,
    camera: str | None = r"(?:^|[^A-Za-z0-9])c(\d+)",
    layout: Layout = "person",
    train_share: Fraction = 0.5,
    seed: Seed = 0,
) -> Benchmark:
    """Read root/<person>/<image>, or root/train/<person>/<image>, root/query/..., root/gallery/...

    Folders `train` and `test` are allowed, too. People and cameras are numbered in sorted order
    from 1; if all are whole numbers of up to 18 digits, they keep their values. Folder 0 holds
    distractors, -1 junk.

    Args:
        camera: regular expression with one group, searched in an image's file name; the group is
            the camera. None: all images are from one camera.
        layout: folder layout. Where cameras have folders, `camera` is not used.
        train_share: without folders train, test, ..., the fraction of identities to train on; the
            others are tested.
        seed: random seed of that choice; it does not depend on the training's.

    Raises:
        DatasetError: no images, images beside the folders train, test, ..., an invalid `camera`, or
            file names that it does not match.
    """
    root = Path(root).expanduser()
    pattern = _pattern(camera)
    example = EXAMPLES[layout]
    require("folders", root, ["."], [f"{example} ...", f"train/{example}, query/..., gallery/..."])
    given = [part for part in PARTS if (root / part).is_dir()]
    if given:
        check_parts(str(root), set(given))
        raise_problems(
            root,
            _other_folders(root),
            f"Only {', '.join(given)} are read: rename or move the others",
        )
    images = [image for part in given or [""] for image in _list_images(root, part, layout)]
    _check(root, given or [""], images, layout)
    split, people, cameras = _split(root, images, pattern, layout)
    parts = np.array([image.part for image in images]) if given else None
    name = root.resolve().name
    benchmark = make_benchmark(
        name, split, parts, train_share, seed, people=people, cameras=cameras
    )
    notes = _notes(name, root, given or [""], images, layout)
    return replace(benchmark, notes=(*benchmark.notes, *notes))


def _pattern(camera: str | None) -> re.Pattern[str] | None:
    if camera is None:
        return None
    try:
        pattern = re.compile(camera)
    except re.error as error:
        raise DatasetError(
            f"dataset.reader.camera={camera!r} is not a valid regular expression: {error}"
        ) from error
    if pattern.groups != 1:
        raise DatasetError(
            f"dataset.reader.camera={camera!r} has {pattern.groups} groups. Expected one, around "
            r"the camera, as in c(\d+); null if all images are from one camera"
        )
    return pattern


def _other_folders(root: Path) -> list[str]:
    """Return errors about folders with images beside train, test, ...: for example `val`."""
    names = (name for name in _folders(root) if name not in PARTS)
    return [f"folder {name} holds images" for name in names if _images_below(root / name)]


def _list_images(root: Path, part: str, layout: Layout) -> Iterator[ImageFile]:
    """Yield the images in the folders of root/part."""
    levels = layout.split("/")
    for folders in _leaves(root / part, len(levels)):
        level = dict(zip(levels, folders, strict=True))
        for file in images_in(root.joinpath(part, *folders)):
            name = "/".join(filter(None, (part, *folders, file)))
            yield ImageFile(part, level["person"], level.get("camera"), name)


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _leaves(folder: Path, depth: int) -> Iterator[tuple[str, ...]]:
    """Yield the folders `depth` levels below, as the names on the way to them."""
    for name in _folders(folder):
        if depth == 1:
            yield (name,)
        else:
            yield from ((name, *below) for below in _leaves(folder / name, depth - 1))


def _images_below(folder: Path) -> list[Path]:
    """Return the images in a folder and below it, sorted."""
    found = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if is_image(path.name))


def _check(root: Path, parts: Sequence[str], images: Sequence[ImageFile], layout: Layout) -> None:
    """Check that images are where `layout` expects them.

    Raises:
        DatasetError: there are none, or the folders of people are named cam1, cam2, ...
    """
    ways = (
        "If folders of cameras contain folders of people, set "
        "dataset.reader.layout=camera/person; if people contain cameras, person/camera"
    )
    if not images:
        expected = f"Expected {root}/{EXAMPLES[layout]} ..."
        elsewhere = [path for part in parts for path in _images_below(root / part)]
        if not elsewhere:
            raise DatasetError(f"{root} has no folders with images ({ENDINGS}). {expected}")
        first = escaped(elsewhere[0].relative_to(root))
        hint = ways if len(elsewhere[0].relative_to(root).parts) > 2 else "Move them"
        raise DatasetError(
            f"{root} has no images where dataset.reader.layout={layout} expects them; "
            f"{len(elsewhere):,} are elsewhere, for example {first}. {expected}. {hint}, or list "
            "the images in a CSV file (dataset=csv)"
        )
    people = sorted({image.person for image in images})
    if layout == "person" and all(CAMERA.fullmatch(person) for person in people):
        raise DatasetError(
            f"{root}: the folders {', '.join(people[:5])} are read as people, but are named like "
            f"cameras. Expected {root}/{EXAMPLES[layout]} .... {ways}; if no folder is a "
            "person, list the images in a CSV file (dataset=csv)"
        )


def _notes(
    name: str, root: Path, parts: Sequence[str], images: Sequence[ImageFile], layout: Layout
) -> list[str]:
    """Return notes about files that are not read, and people whose folders have two names."""
    read = {image.name for image in images}
    all_images = [path for part in parts for path in _images_below(root / part)]
    relative = [path.relative_to(root).as_posix() for path in all_images]
    ignored = sorted(path for path in relative if path not in read and not _hidden(path))
    notes = list(skipped_note(name, *{root / Path(image.name).parent for image in images}))
    if ignored:
        notes.append(
            f"{name}: {len(ignored):,} images are not where dataset.reader.layout={layout} "
            f"expects them and are skipped, for example {escaped(ignored[0])}"
        )
    names_of: dict[int, set[str]] = {}
    for pid, image in zip(
        number_people([i.person for i in images])[0].tolist(), images, strict=True
    ):
        names_of.setdefault(pid, set()).add(image.person)
    notes += [
        f"{name}: the folders {', '.join(map(escaped, sorted(names)))} are one person"
        for names in names_of.values()
        if len(names) > 1
    ]
    return notes


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _split(
    root: Path, images: Sequence[ImageFile], pattern: re.Pattern[str] | None, layout: Layout
) -> tuple[Split, Names, Names]:
    """Number people and cameras; return the split, and their names."""
    pids, people = number_people([image.person for image in images])
    low = sorted({f"folder {images[i].person}" for i in np.flatnonzero(pids < JUNK).tolist()})
    raise_problems(root, low, "Expected 1 and above; 0 holds distractors, -1 junk")
    if layout == "person":
        texts = _cameras_in_names(root, [image.name for image in images], pattern)
    else:
        texts = [str(image.camera) for image in images]
    camids, cameras = number_labels(texts)
    rows = zip((i.name for i in images), pids.tolist(), camids.tolist(), strict=True)
    return Split.of(root, [(name, pid, cam, 0) for name, pid, cam in rows]), people, cameras


def _cameras_in_names(
    root: Path, names: Sequence[str], pattern: re.Pattern[str] | None
) -> list[str]:
    """Find the camera in each image's file name with `pattern`; "1" for None.

    Raises:
        DatasetError: some names do not match.
    """
    if pattern is None:
        return ["1"] * len(names)
    matches = [pattern.search(name.rpartition("/")[2]) for name in names]
    cameras = [(match[1] or "") if match else "" for match in matches]
    unmatched = [name for name, camera in zip(names, cameras, strict=True) if not camera]
    fix = f"Expected names that dataset.reader.camera={pattern.pattern!r} matches"
    raise_problems(
        root,
        unmatched,
        f"{fix}: rename them, or set another expression (null: one camera); if cameras are "
        "folders, set dataset.reader.layout",
    )
    return cameras
