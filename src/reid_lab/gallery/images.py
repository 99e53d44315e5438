"""Labels of images from their paths: people and cameras, by a regular expression."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped
from reid_lab.gallery_format.rows import UNKNOWN, named_of, number_of
from reid_lab.images.boxes import Box
from reid_lab.retrieval.embeddings import Ids

# Market-1501's PPPP_cC in the file's name, as in 0002_c1s1_000451_03.jpg
MARKET = r"(?:^|/)(?P<pid>-?\d+)_c(?P<camid>\d+)[^/]*$"
# a folder for each person, the camera in the file's name where there is one: anna/door_c1_001.jpg
FOLDERS = r"(?P<pid>[^/]+)/(?:[^/]*?(?<![A-Za-z0-9])c(?P<camid>\d+))?[^/]*$"
SECONDS = 1.0  # time limit of a path; good patterns take microseconds


class Labelled(NamedTuple):
    """An image with the names of its person, camera and tracklet, empty if unknown.

    `box` is its part of the file; None is the whole file. `values` are its metadata by column.
    """

    path: Path
    person: str = ""
    camera: str = ""
    tracklet: str = ""
    box: Box | None = None
    values: Mapping[str, str] = MappingProxyType({})

    @property
    def pid(self) -> int:
        return number_of(self.person) if self.person else UNKNOWN

    @property
    def camid(self) -> int:
        return number_of(self.camera) if self.camera else UNKNOWN


def choose_pattern(paths: Sequence[Path], root: Path) -> str:
    """The pattern for the images below `root`, if none was given.

    Market-1501's pattern if it finds a person in any of them; else one folder per person, if every
    image is in a folder directly below `root`; else Market-1501's.
    """
    market = re.compile(MARKET)
    if any(market.search(path.as_posix()) for path in paths):
        return MARKET
    folders = {path.parent.parent for path in paths}
    return FOLDERS if folders == {root.absolute()} else MARKET


def label(paths: Sequence[Path], pattern: str) -> list[Labelled]:
    """Label each path by a regular expression; "" gives no labels.

    Args:
        paths: paths of images.
        pattern: regular expression with groups `pid` and `camid`, which match any text.

    Raises:
        UserError: not a regular expression, no group `pid` or `camid`, or one that takes
            exponential time on a path.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"pattern {pattern!r} is not a regular expression: {error}") from error
    groups = [name for name in ("pid", "camid") if name in compiled.groupindex]
    if not pattern:
        return [Labelled(path) for path in paths]
    if not groups:
        raise UserError(f"pattern {pattern!r} has neither (?P<pid>...) nor (?P<camid>...)")
    found = []
    for path in paths:
        match = _search(compiled, path)
        names = {name: (match[name] or "") if match else "" for name in groups}
        found.append(Labelled(path, names.get("pid", ""), names.get("camid", "")))
    return found


def ids_of(images: Sequence[Labelled]) -> Ids:
    """The ids of images, as a gallery stores them."""
    pids = torch.tensor([image.pid for image in images], dtype=torch.int64)
    camids = torch.tensor([image.camid for image in images], dtype=torch.int64)
    return Ids(pids, camids, np.array([str(image.path) for image in images], dtype=object))


def names_of(images: Sequence[Labelled]) -> dict[int, str]:
    """Number -> name of people and cameras, see `named_of`."""
    return named_of((image.person for image in images), (image.camera for image in images))


def columns_of(images: Sequence[Labelled]) -> dict[str, list[str]]:
    """Metadata by column, one value per image; empty if missing."""
    names = dict.fromkeys(name for image in images for name in image.values)
    return {name: [image.values.get(name, "") for image in images] for name in names}


def _search(pattern: re.Pattern[str], path: Path) -> re.Match[str] | None:
    """The match, or an error after `SECONDS`: nested repeats may take exponential time.

    There is no limit without interval timers (Windows) or outside the main thread.
    """
    if not hasattr(signal, "setitimer") or (
        threading.current_thread() is not threading.main_thread()
    ):
        return pattern.search(path.as_posix())

    def stop(*_: object) -> None:
        raise UserError(
            f"pattern {pattern.pattern!r} takes more than {SECONDS:g} s on {escaped(path)}: "
            "write it without a repeat within a repeat, such as (a+)+"
        )

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return pattern.search(path.as_posix())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
