"""Shared by the readers of benchmarks: split numbers, file names, MATLAB files."""

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
    """Check the number of a split, counted from 0.

    Raises:
        DatasetError: `split` is not below `count`.
    """
    if not 0 <= split < count:
        allowed = f"0 to {count - 1}" if count > 1 else "0, the only one"
        raise DatasetError(f"{name}: unknown split {split}: set dataset.reader.split={allowed}")


def match_names(folder: Path, pattern: re.Pattern[str], example: str) -> Iterator[re.Match[str]]:
    """Match the names of the images in `folder`, sorted, with `pattern`.

    Args:
        example: a valid name, for the error message.

    Raises:
        DatasetError: the folder has no image, or a name does not match.
    """
    matches = {name: pattern.match(name) for name in image_names(folder)}
    unmatched = [name for name, match in matches.items() if match is None]
    if unmatched:
        raise DatasetError(
            f"{folder}: {len(unmatched):,} names do not match {example}, the first is "
            f"{unmatched[0]!r}: rename or remove it"
        )
    return filter(None, matches.values())


@contextmanager
def expecting(path: Path | str, what: str) -> Iterator[None]:
    """Turn the errors of a block that reads arrays into one message.

    Args:
        what: the arrays that are expected, for the message.

    Raises:
        DatasetError: the block raises, because the arrays have another type or shape.
    """
    try:
        yield
    except DatasetError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError) as error:
        raise DatasetError(
            f"{path}: expected {what}, found something else ({error}): download the file again"
        ) from error


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """Read the variables `names` of a MATLAB file, v7 or older.

    Raises:
        DatasetError: the file cannot be read, or a variable is missing.
    """
    try:
        variables = loadmat(path, variable_names=names)
        return {name: variables[name] for name in names}
    except Exception as error:  # damaged files raise errors of any kind
        raise DatasetError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it must be a MATLAB file "
            f"with {', '.join(names)}; download it again"
        ) from error
