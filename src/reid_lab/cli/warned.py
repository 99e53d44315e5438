"""Warnings of the package, as commands show them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from reid_lab.errors import SpaceWarning


@contextmanager
def warned() -> Iterator[None]:
    """Print each warning of the package as one line on stderr, and others as before."""
    others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, SpaceWarning):
            print(f"warning: {message}", file=sys.stderr)
        else:
            others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", SpaceWarning)
        warnings.showwarning = show
        yield
