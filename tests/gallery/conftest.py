"""A tiny network, for tests that embed images with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_lab.checkpoint import load_model
from reid_lab.model import ReidModule
from tests.methods import method, save


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained DaRe."""
    return save(method("dare"), tmp_path_factory.mktemp("embed") / "last.ckpt")


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> ReidModule:
    return load_model(checkpoint)
