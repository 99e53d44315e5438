"""From overrides to what is wrong with a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from omegaconf import DictConfig

from reid_lab.config.build import build_data
from reid_lab.config.check import ConfigError
from reid_lab.config.overrides import composed
from reid_lab.config.settings import check_settings
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.records import Benchmark, DatasetError
from reid_lab.doctor.checks import check_labels
from reid_lab.doctor.findings import Finding
from reid_lab.doctor.hashes import check_installed
from reid_lab.doctor.images import check_images
from reid_lab.doctor.scan import ImageStats, scan
from reid_lab.doctor.sheet import sheet
from reid_lab.errors import UserError
from reid_lab.output.arguments import texts

Progress: TypeAlias = Callable[[str, int, int], None]
PARTS = ("train", "query", "gallery", "multi_query")


@dataclass(frozen=True)
class Examination:
    """What was found in a data set.

    Attributes:
        findings: errors, with which training would fail; warnings and notes.
        benchmark: the data set; None if it cannot be read.
        images: part -> sizes of its images, and which of them can be decoded.
        seed: random seed of the sheet.
    """

    findings: list[Finding]
    benchmark: Benchmark | None = None
    images: Mapping[str, ImageStats] = field(default_factory=dict)
    seed: int = 0

    @property
    def trainable(self) -> bool:
        """Whether training would work."""
        return all(finding.level != "error" for finding in self.findings)

    def write_sheet(self, path: Path | str, people: int = 8) -> None:
        """Write a contact sheet of random people, which shows their images: share it with care.

        Raises:
            DatasetError: there are no people, or no data set.
        """
        if self.benchmark is None:
            raise DatasetError("the data set cannot be read: there is nothing to show")
        sheet(self.benchmark, people, self.seed).save(path)


def examine_data(
    overrides: str | Sequence[str], *, progress: Progress = lambda part, done, total: None
) -> Examination:
    """Check a data set before training: its labels, every image, and near-duplicates.

    Args:
        overrides: words of the command line, one or several, such as ["dataset=csv",
            "dataset.root=/data/mine"].
        progress: called with a part and its numbers of images that are done, and of all.

    Raises:
        ConfigError: the overrides make no data set.
        MissingPackageError: faiss, which finds near-duplicates.
    """
    cfg = composed_data(texts("overrides", overrides))
    check_installed()
    data = build_data(cfg)
    try:
        data.render()
        benchmark = data.benchmark
    except UserError as error:
        return Examination([Finding("error", str(error))], seed=cfg.seed)
    stats = scan_all(benchmark, progress)
    found = [*check_run(data), *check_labels(benchmark, data.k)]
    found += check_images(benchmark, stats)
    found += [Finding("note", note) for note in data.notes(training=True)]
    return Examination(found, benchmark, stats, cfg.seed)


def composed_data(overrides: Sequence[str]) -> DictConfig:
    """The config as `python -m reid_lab` composes it, with a checked data set.

    Raises:
        ConfigError: all that is wrong with its data set.
    """
    cfg = composed(overrides)
    problems = [p for p in check_settings(cfg) if p.key.split(".")[0] in ("dataset", "seed")]
    if problems:
        raise ConfigError(problems)
    return cfg


def scan_all(
    benchmark: Benchmark, progress: Progress = lambda part, done, total: None
) -> dict[str, ImageStats]:
    """Decode everything, part by part."""
    splits = {part: split for part in PARTS if (split := getattr(benchmark, part)) is not None}
    stats = {}
    for part, split in splits.items():
        done, total = 0, len(split)

        def advance(count: int, part: str = part, total: int = total) -> None:
            nonlocal done
            done += count
            progress(part, done, total)

        stats[part] = scan(split, advance)
    return stats


def check_run(data: ReidDataModule) -> list[Finding]:
    """Errors that a run would report before its first batch."""
    try:
        data.check()
    except UserError as error:
        return [Finding("error", str(error))]
    return []
