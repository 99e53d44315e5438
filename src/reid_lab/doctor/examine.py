"""`reid-lab doctor`: from overrides to findings."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from omegaconf import DictConfig

from reid_lab.config.build import build_data
from reid_lab.config.check import ConfigError
from reid_lab.config.overrides import composed
from reid_lab.config.settings import check_settings
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.records import Benchmark
from reid_lab.doctor import show
from reid_lab.doctor.checks import check_labels
from reid_lab.doctor.findings import Finding
from reid_lab.doctor.hashes import check_installed
from reid_lab.doctor.images import check_images
from reid_lab.doctor.scan import ImageStats, scan
from reid_lab.doctor.sheet import sheet
from reid_lab.errors import UserError
from reid_lab.files.outputs import check_writable
from reid_lab.output.console import progress, stderr

PARTS = ("train", "query", "gallery", "multi_query")


def examine(args: Namespace) -> int:
    """Print the findings, write the sheet. Returns 0 if training would work, 1 if it would fail.

    Raises:
        ConfigError: the overrides make no data set.
        MissingPackageError: faiss, which finds near-duplicates.
        UserError: `--sheet` cannot be written.
    """
    if args.sheet is not None:
        check_writable(args.sheet)
    cfg = composed_data(args.overrides)
    check_installed()
    data = build_data(cfg)
    try:
        data.render()
        benchmark = data.benchmark
    except UserError as error:
        show.findings([Finding("error", str(error))])
        return 1
    stats = scan_all(benchmark)
    show.overview(benchmark, stats)
    found = [*check_run(data), *check_labels(benchmark, data.k)]
    with stderr.status("search near-duplicates ..."):
        found += check_images(benchmark, stats)
    found += [Finding("note", note) for note in data.notes(training=True)]
    show.findings(found)
    if args.sheet is not None:
        sheet(benchmark, args.people, cfg.seed).save(args.sheet)
        show.sheet_written(args.sheet)
    return int(any(finding.level == "error" for finding in found))


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


def scan_all(benchmark: Benchmark) -> dict[str, ImageStats]:
    """Decode everything, part by part."""
    splits = {part: split for part in PARTS if (split := getattr(benchmark, part)) is not None}
    stats = {}
    with progress() as bar:
        for part, split in splits.items():
            task = bar.add_task(f"{part} images", total=len(split))
            stats[part] = scan(split, partial(bar.advance, task))
    return stats


def check_run(data: ReidDataModule) -> list[Finding]:
    """Errors that a run would report before its first batch."""
    try:
        data.check()
    except UserError as error:
        return [Finding("error", str(error))]
    return []
