"""`reid-lab cost`: from overrides to a table of costs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins.precision import Precision

from reid_lab.budget.profile import measure_profile, write_profile
from reid_lab.checkpoint import without_weights
from reid_lab.config.build import build_model
from reid_lab.config.check import ConfigError
from reid_lab.config.dry_run import try_model
from reid_lab.config.make import image_size, make, plain
from reid_lab.config.overrides import composed
from reid_lab.config.settings import check_settings
from reid_lab.cost.account import (
    Counted,
    Effort,
    Subject,
    account,
    network_subject,
    reference_subject,
)
from reid_lab.cost.allocator import keep_blocks
from reid_lab.cost.machine import find_device
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.errors import UserError
from reid_lab.files.outputs import check_writable
from reid_lab.gallery.embed import Embedder
from reid_lab.model import ReidModule
from reid_lab.output.words import Problem
from reid_lab.profiling import show
from reid_lab.results.rows.cost import COST
from reid_lab.run.messages import silence_lightning
from reid_lab.run.run import prepare_torch

PEOPLE = 2  # a classifier's, where the config leaves them open: classifiers are not measured
# without influence on the cost: a run's folder and name, what it reads, trains and reports
APART = {"name", "run_dir", "compare", "ckpt_path", "task", "logger", "callbacks"}


@dataclass(frozen=True)
class Measured:
    """A network with its device, input size (H, W) and number of views in a test."""

    model: ReidModule
    size: tuple[int, int]
    views: int
    device: torch.device
    precision: Precision


def measure(args: Namespace) -> int:
    """Print the table, and write it if `--csv` is given.

    Raises:
        UserError: invalid overrides, device or checkpoint, or files that cannot be written.
    """
    for path in filter(None, (args.csv, args.profile)):
        check_writable(path)
    if args.allocator == "keep":
        keep_blocks()
    cfg = composed_network(args.overrides)
    silence_lightning()
    prepare_torch(cfg)
    measured = build(cfg, args)
    effort = Effort(args.batch, args.repeats, args.seconds)
    with show.working():
        rows = COST.of(
            {**row, "precision": measured.precision.precision if s.kind == "exit" else ""}
            for s in [subject(measured), *references(cfg, measured)]
            for row in account(s, effort, measured.views, args.gallery)
        )
    show.costs(rows, cfg.name if args.checkpoint is None else str(args.checkpoint), measured.size)
    if args.csv is not None:
        COST.write(args.csv, rows)
    if args.profile is not None:
        _profile(measured, args, effort)
    return 0


def _profile(m: Measured, args: Namespace, effort: Effort) -> None:
    """Measure single queries and batches of `--batch-size`; add both to the file `--profile`."""
    batches = sorted({1, args.batch})
    precision = str(m.precision.precision)
    with show.working():
        rows = measure_profile(subject(m), effort, batches, args.gallery, precision)
    write_profile(args.profile, rows)
    show.profile(rows, args.profile)


def composed_network(overrides: Sequence[str]) -> DictConfig:
    """The config as `python -m reid_lab` composes it, but without requiring a data set.

    Raises:
        UserError: Hydra refuses an override; a ConfigError lists all problems of the parts that are
            used.
    """
    chosen = {key.strip("+"): value for key, _, value in (w.partition("=") for w in overrides)}
    # a run's own name is made of what Hydra chose
    name = [] if "name" in chosen else [f"name={chosen.get('experiment', 'model')}"]
    cfg = composed([*overrides, *name])
    problems = [p for p in check_settings(cfg) if _matters(p)]
    if problems:
        raise ConfigError(problems)
    return cfg


def _matters(problem: Problem) -> bool:
    group, *below = problem.key.split(".")
    if group == "dataset":
        return below[:1] in ([], ["transforms"])
    if group == "trainer":
        return below[:1] in ([], ["precision"])
    return group not in APART or problem.key.startswith("callbacks.ranking.references")


def build(cfg: DictConfig, args: Namespace) -> Measured:
    """The network of the config, or of the checkpoint, in the config's precision."""
    device = find_device(args.device)
    if args.checkpoint is not None:
        embedder = Embedder.load(args.checkpoint, device=args.device)
        model, size = embedder.model, embedder.model.crop or embedder.image
        if cfg.channels_last:
            model.to(memory_format=torch.channels_last)
    else:
        problems, _ = try_model(cfg, None)
        if problems:
            raise ConfigError(problems)
        cfg.model = without_weights(plain(cfg.model))
        height, width = image_size(cfg)
        model, size = build_model(cfg, PEOPLE), (height, width)
    precision = _precision(cfg.trainer.precision, device)
    model = precision.convert_module(model.eval().to(device))  # type: ignore[assignment]
    return Measured(model, size, cfg.dataset.transforms.views, device, precision)


def _precision(name: Any, device: torch.device) -> Precision:
    """Lightning's handling of `trainer.precision`."""
    try:
        trainer = pl.Trainer(
            accelerator=device.type,
            devices=1,
            precision=name,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"trainer.precision={name} on {device.type}: {error}") from error
    return trainer.precision_plugin


def subject(m: Measured) -> Subject:
    counts, dims = count_exits(m.model, *m.size), exit_dims(m.model, *m.size)
    counted = {name: Counted(count, dims[name]) for name, count in counts.items()}
    context, convert = m.precision.test_step_context, m.precision.convert_input
    return network_subject(m.model, counted, m.size, context, convert)


def references(cfg: DictConfig, m: Measured) -> list[Subject]:
    """The references that a test would rank beside the exits."""
    nodes = ((cfg.callbacks or {}).get("ranking") or {}).get("references") or {}
    found = []
    for name in nodes:
        features = make(cfg, f"callbacks.ranking.references.{name}")
        probe = torch.zeros(1, 3, *m.size, dtype=torch.uint8, device=m.device)
        counted = Counted(features.mul_adds(*m.size), features(probe).shape[1])
        found.append(reference_subject(name, features, counted, m.size, m.device))
    return found
