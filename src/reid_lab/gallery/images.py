"""What the names of images tell about who is in them."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from reid_lab.errors import UserError
from reid_lab.files.image_files import escaped
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.store import UNKNOWN

SECONDS = 1.0  # for a path; good patterns take microseconds


class Named(NamedTuple):
    """An image with the pid and camid in its name, `UNKNOWN` where it has none."""

    path: Path
    pid: int = UNKNOWN
    camid: int = UNKNOWN


def named(paths: Sequence[Path], pattern: str) -> list[Named]:
    """Each path with what `pattern`, a regular expression, finds in it; "" finds nothing.

    Raises:
        UserError: no regular expression, without groups `pid` or `camid`, a group that takes
            something that is no number, or one that does not come to an end on a path.
    """
    try:
        found = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"pattern {pattern!r} is no regular expression: {error}") from error
    groups = [name for name in ("pid", "camid") if name in found.groupindex]
    if pattern and not groups:
        raise UserError(f"pattern {pattern!r} has neither (?P<pid>...) nor (?P<camid>...)")
    return [Named(path, **_numbers(found, path, groups)) for path in paths]


def ids_of(images: Sequence[Named]) -> Ids:
    """As a gallery takes them."""
    pids, camids = (torch.tensor([image[i] for image in images], dtype=torch.int64) for i in (1, 2))
    return Ids(pids, camids, np.array([str(image.path) for image in images], dtype=object))


def _numbers(pattern: re.Pattern[str], path: Path, groups: Sequence[str]) -> dict[str, int]:
    match = _search(pattern, path) if groups else None
    if match is None:
        return {}
    texts = {name: match[name] for name in groups if match[name] is not None}
    try:
        numbers = {name: int(text) for name, text in texts.items()}
    except ValueError:
        numbers = {"": -1 << 63}
    if not all(-1 <= number < 1 << 63 for number in numbers.values()):
        raise UserError(
            f"the pattern finds {texts} in {escaped(path)}: pid and camid are whole numbers from "
            "-1 to 2**63 - 1; let its groups take digits only, as (?P<pid>\\d+)"
        )
    return numbers


def _search(pattern: re.Pattern[str], path: Path) -> re.Match[str] | None:
    """What is found, in time: nested repeats try exponentially many ways, and a file may hold such
    a pattern. Without interval timers (Windows), or beside the main thread, there is no limit."""
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
