"""Runs in this process draw no report, unless a test is marked `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def without_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("report"):
        return

    def path_only(finished: Any, *_: object) -> Path:
        return Path(finished.folder) / "report" / "report.html"

    monkeypatch.setattr("reid_lab.run.run.write_report", path_only)
