"""From overrides to a table of costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.plugins.precision import Precision

from reid_lab.budget.profile import measure_profile
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
from reid_lab.gallery.embedder import Embedder
from reid_lab.model import ReidModule
from reid_lab.output import arguments
from reid_lab.output.arguments import texts
from reid_lab.output.words import Problem
from reid_lab.results.rows.cost import COST, CostRow, ProfileRow
from reid_lab.run.messages import silence_lightning
from reid_lab.run.run import prepare_torch

Allocator: TypeAlias = Literal["keep", "default"]
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


@dataclass(frozen=True)
class CostResult:
    """What each exit of a network costs on this machine.

    Attributes:
        rows: one per exit and reference: Mul-Adds, parameters, memory, times, energy.
        profile: single queries and batches with their search; empty if it was not measured.
        name: name of the config, or the checkpoint.
        size: height and width of the images.
    """

    rows: list[CostRow]
    profile: list[ProfileRow]
    name: str
    size: tuple[int, int]


def measure_costs(
    overrides: str | Sequence[str] = (),
    checkpoint: Path | str | None = None,
    *,
    gallery: int | None = None,
    profile: bool = False,
    batch_size: int = 32,
    repeats: int = 50,
    seconds: float = 30.0,
    device: str = "auto",
    allocator: Allocator = "keep",
) -> CostResult:
    """Measure what each exit of a network costs on this machine, without training or data.

    Args:
        overrides: words of the command line, one or several, such as
            ["+experiment=dare_market", "model.dim=64"].
        checkpoint: measure the network of this checkpoint, at its image size.
        gallery: size of the gallery: adds the cost of a search in so many images.
        profile: also measure a query alone and in batches, with its search of `gallery` images,
            which budgets in milliseconds and joules need; see `budget.write_profile`.
        batch_size: batch size for images/s.
        repeats: most timed passes of each.
        seconds: seconds to time the network, and each reference.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.
        allocator: glibc's allocator on the CPU: `keep` freed memory for the next layer, for the
            rest of the process, or glibc's `default`.

    Raises:
        UserError: invalid overrides, device or checkpoint, or a profile without a gallery.
    """
    overrides = texts("overrides", overrides)
    if profile and gallery is None:
        raise UserError("a profile needs the size of the gallery that a query is compared with")
    if allocator == "keep":
        keep_blocks()
    cfg = composed_network(overrides)
    silence_lightning()
    prepare_torch(cfg)
    m = build(cfg, arguments.path_or_none("checkpoint", checkpoint), device)
    effort = Effort(batch_size, repeats, seconds)
    rows = COST.of(
        {**row, "precision": m.precision.precision if s.kind == "exit" else ""}
        for s in [subject(m), *references(cfg, m)]
        for row in account(s, effort, m.views, gallery)
    )
    measured: list[ProfileRow] = []
    if profile and gallery is not None:
        batches, precision = sorted({1, batch_size}), str(m.precision.precision)
        measured = measure_profile(subject(m), effort, batches, gallery, precision)
    return CostResult(rows, measured, cfg.name if checkpoint is None else str(checkpoint), m.size)


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


def build(cfg: DictConfig, checkpoint: Path | None = None, device_name: str = "auto") -> Measured:
    """The network of the config, or of the checkpoint, in the config's precision."""
    device = find_device(device_name)
    if checkpoint is not None:
        embedder = Embedder.load(checkpoint, device=device_name)
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
    return Measured(model, size, cfg.dataset.transforms.test_views, device, precision)


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
