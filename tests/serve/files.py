"""Files of people that are closed behind a test: since Python 3.13 sqlite3 warns of open ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reid_lab.runtime.manifest import Manifest
from reid_lab.serve.people import People
from tests.serve.network import Colours

Opened = Callable[..., People]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """`People.open`, of the network `Colours` if no manifest is given."""
    every: list[People] = []

    def open_people(
        path: Path, manifest: Manifest | None = None, metric: str = "euclidean"
    ) -> People:
        every.append(People.open(path, manifest or Colours().manifest, metric))
        return every[-1]

    yield open_people
    for people in every:
        people.close()
