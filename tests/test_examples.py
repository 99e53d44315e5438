"""The scripts in docs/examples run, and do what they are there for."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

SCRIPT = Path(__file__).parents[1] / "docs" / "examples" / "track_by_appearance.py"


@pytest.fixture(scope="module")
def tracker() -> dict[str, Any]:
    """The names in the script; its network is trained once."""
    names = runpy.run_path(str(SCRIPT))
    model = names["trained"](steps=40)
    names["main"].__globals__["trained"] = lambda: model
    return names


@pytest.mark.parametrize("words", [[], ["--exit", "stage2"], ["--bytetrack"]], ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_people_are_tracked(
    words: list[str], tracker: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    if "--bytetrack" in words:
        pytest.importorskip("supervision")
        pytest.importorskip("trackers")
    tracker["main"](words)
    printed = capsys.readouterr().out
    found = re.search(r"(\d+) boxes of 5 people: (\d+) identities, (\d+)% of the boxes", printed)
    assert found is not None, printed
    boxes, identities, right = map(int, found.groups())
    assert boxes > 150 and 5 <= identities <= 7 and right >= 90
    if "--bytetrack" in words:  # people leave and come back
        tracklets = re.search(r"ByteTrack: (\d+) tracklets", printed)
        assert tracklets is not None and identities < int(tracklets[1])
