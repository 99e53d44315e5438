"""metrics.csv keeps its rows whatever happens to the process or the disk."""

from __future__ import annotations

import csv
import errno
import io
from pathlib import Path
from typing import Any

import pytest

from reid_lab.callbacks.loggers import CsvLogger
from reid_lab.files.atomic import DiskFullError
from reid_lab.report.logs import read_logs

OPEN = Path.open


@pytest.fixture
def logger(tmp_path: Path) -> CsvLogger:
    logger = CsvLogger(tmp_path, name="logs", version=0)
    logger.log_metrics({"loss": 1.5}, 1)
    logger.save()
    return logger


def rows(logger: CsvLogger) -> list[dict[str, str]]:
    with Path(logger.log_dir, "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_added_and_new_columns_are_blank_before(logger: CsvLogger) -> None:
    logger.log_metrics({"loss": 1.25}, 2)
    logger.save()
    logger.log_metrics({"loss": 1.0, "accuracy": 0.5}, 3)
    logger.log_hyperparams({"lr": 1})
    logger.finalize("success")
    found = [(row["step"], row["loss"], row["accuracy"]) for row in rows(logger)]
    assert found == [("1", "1.5", ""), ("2", "1.25", ""), ("3", "1.0", "0.5")]


def test_a_kill_while_columns_are_added_leaves_the_rows(
    logger: CsvLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    logger.log_metrics({"accuracy": 0.5}, 2)
    monkeypatch.setattr(Path, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        logger.save()
    assert rows(logger) == [{"loss": "1.5", "step": "1"}]


class Full(io.BytesIO):
    """Takes three bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, content: Any) -> int:
        with OPEN(self.path, "ab") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, "full")


def test_a_full_disk_leaves_no_half_row(logger: CsvLogger, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(logger.log_dir, "metrics.csv")
    before = path.read_bytes()
    logger.log_metrics({"loss": 1.25}, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda p, m, **o: Full(p) if m == "ab" else OPEN(p, m, **o))
        with pytest.raises(DiskFullError, match="metrics.csv"):
            logger.save()
    assert path.read_bytes() == before
    logger.save()  # there is room again
    assert [row["step"] for row in rows(logger)] == ["1", "2"]


def test_half_a_row_is_not_read(logger: CsvLogger) -> None:
    with Path(logger.log_dir, "metrics.csv").open("a") as file:
        file.write("1.25,1")  # of 12
    assert list(read_logs(Path(logger.log_dir).parent).rows) == [1]
