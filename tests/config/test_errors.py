"""Errors travel between the processes of a sweep."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from reid_lab.config.check import ConfigError
from reid_lab.config.make import RefusedError
from reid_lab.errors import UserError
from reid_lab.files.stored import StoredFileError
from reid_lab.output.words import Problem

ERRORS = [
    UserError("plain"),
    ConfigError([Problem("model.lr", "fast", "a number", "give one")]),
    RefusedError("model", "no such thing"),
    StoredFileError(Path("a.csv"), "no column"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: UserError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert vars(again).keys() == vars(error).keys()
