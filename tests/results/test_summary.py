"""What `summary.json` may hold: each value that is not is one message with its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reid_lab.files.stored import StoredFileError
from reid_lab.files.tables import write_json
from reid_lab.results import SUMMARY
from reid_lab.results.summary import Summary

LEAST, MOST = "greater than or equal to 0", "at most 500 characters"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"elapsed_s": -1}, f"elapsed_s is -1: input should be {LEAST}"),
        ({"elapsed_s": "1"}, "elapsed_s is '1': input should be a valid number"),
        ({"mul_adds": {"early": -3.0}}, f"mul_adds.early is -3.0: input should be {LEAST}"),
        ({"mul_adds": {"early": 1e19}}, "mul_adds.early is 1e\\+19: input should be less than"),
        ({"seed": -1}, f"seed is -1: input should be {LEAST}"),
        ({"dataset": "market"}, "dataset is 'market': input should be a valid dict"),
        (
            {"dataset": {"train": {"pids": -3}}},
            f"dataset.train.pids is -3: input should be {LEAST}",
        ),
        ({"dataset": {"train": {"pids": []}}}, r"dataset.train.pids is \[\]: input should be"),
        ({"dataset": {"name": "x" * 501}}, f"dataset.name is 'x.*{MOST}"),
        ({"machine": "x" * 501}, f"machine is 'x.*{MOST}"),
        ({"name": "a\nb"}, r"name is 'a\\nb': it has several lines"),
        ({"commit": 3}, "commit is 3: input should be a valid string"),
    ],
)
def test_a_value_that_is_out_of_range(tmp_path: Path, content: Any, message: str) -> None:
    write_json(tmp_path / SUMMARY, content)
    with pytest.raises(StoredFileError, match=message):
        Summary.read(tmp_path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    counts = {"name": "m", "train": {"images": 3, "pids": 0}}
    whole = Summary(name="a", seed=0, dataset=counts, mul_adds={"early": 10**12}, elapsed_s=0.5)
    whole.write(tmp_path)
    assert Summary.read(tmp_path) == whole
