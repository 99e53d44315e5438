"""Lightning's CSV logger, made safe: a kill or a full disk loses no written row."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pytorch_lightning.core.saving import save_hparams_to_yaml
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from reid_lab.files.atomic import disk_full, is_disk_full, replacing, write_text


class CsvLogger(CSVLogger):
    """Lightning's CSV logger with `MetricsFile`; the original rewrites the file in place."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if not isinstance(self._experiment, MetricsFile):
            self._experiment = MetricsFile(log_dir=self.log_dir)
        return self._experiment


class MetricsFile(ExperimentWriter):
    """`metrics.csv`: rows are appended; new columns replace the file.

    The folder, with `hparams.yaml`, is made for the first row: a checkpoint may be refused before.
    """

    last: Mapping[str, Any] | None = None

    def __init__(self, log_dir: str) -> None:
        self.log_dir, self.begun = log_dir, False
        self.metrics, self.metrics_keys, self.hparams = [], [], {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row; a repetition of the last row is dropped."""
        super().log_metrics(metrics, step)
        if self.metrics[-1] == self.last:
            self.metrics.pop()
        else:
            self.last = self.metrics[-1]

    def save(self) -> None:
        if not self.metrics:
            return
        if not self.begun:
            self._begin()
        path = Path(self.metrics_file_path)
        columns = sorted({*self.metrics_keys, *chain.from_iterable(self.metrics)})
        if columns == self.metrics_keys:
            _append(path, _lines(columns, self.metrics))
        else:
            header = dict(zip(columns, columns, strict=True))
            write_text(path, _lines(columns, [header, *_rows(path), *self.metrics]))
        self.metrics_keys, self.metrics = columns, []

    def log_hparams(self, params: dict[str, Any]) -> None:
        self.hparams.update(params)
        if self.begun:
            self._write_hparams()

    def _begin(self) -> None:
        """Make the folder, or empty that of a version that the config gives, as Lightning does."""
        kept = self.metrics, self.hparams
        super().__init__(self.log_dir)
        self.metrics, self.hparams = kept
        self.begun = True
        if self.hparams:
            self._write_hparams()

    def _write_hparams(self) -> None:
        with replacing(Path(self.log_dir, self.NAME_HPARAMS_FILE)) as beside:
            save_hparams_to_yaml(str(beside), self.hparams)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns).writerows(rows)
    return text.getvalue()


def _append(path: Path, lines: str) -> None:
    size = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(lines.encode())
    except OSError as error:
        os.truncate(path, size)  # no half line
        if is_disk_full(error):
            raise disk_full(path) from error
        raise
