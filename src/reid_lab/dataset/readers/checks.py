"""What the readers of benchmarks with published splits share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from reid_lab.dataset.readers.files import image_names
from reid_lab.dataset.records import DatasetError


def check_split(name: str, split: int, count: int) -> None:
    """Whether there is a split of that number, from 0.

    Raises:
        DatasetError: there is not.
    """
    if not 0 <= split < count:
        allowed = f"0 to {count - 1}" if count > 1 else "0, the only one"
        raise DatasetError(f"{name}: there is no split {split}: set dataset.reader.split={allowed}")


def match_names(folder: Path, pattern: re.Pattern[str], example: str) -> Iterator[re.Match[str]]:
    """The names of the images in `folder`, sorted, as matches of `pattern`.

    Raises:
        DatasetError: there is none, or one does not follow the pattern.
    """
    matches = {name: pattern.match(name) for name in image_names(folder)}
    odd = [name for name, match in matches.items() if match is None]
    if odd:
        raise DatasetError(
            f"{folder}: {len(odd):,} names are not like {example}, the first is {odd[0]!r}: "
            "rename or remove it"
        )
    return filter(None, matches.values())


@contextmanager
def expecting(path: Path | str, what: str) -> Iterator[None]:
    """Arrays of another type or shape than `what` end in one message, not in numpy's own.

    Raises:
        DatasetError: the block fails.
    """
    try:
        yield
    except DatasetError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
        raise DatasetError(
            f"{path}: expected {what}, found something else ({error}): get the file anew"
        ) from error


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """The variables `names` of a MATLAB file, v7 or older.

    Raises:
        DatasetError: it cannot be read, or lacks one.
    """
    try:
        found = loadmat(path, variable_names=names)
        return {name: found[name] for name in names}
    except Exception as error:  # a damaged file can end in any
        raise DatasetError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it must be a MATLAB file "
            f"with {', '.join(names)}; get it anew"
        ) from error
