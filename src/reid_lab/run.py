"""One run: check, build, fit, test, report."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reid_lab.atomic import write_text
from reid_lab.budget.allocator import keep_blocks
from reid_lab.build import (
    build_data,
    build_model,
    build_trainer,
    identities_of,
    take_weights,
    use_trained_size,
)
from reid_lab.callbacks import RankingEvaluation
from reid_lab.dataset import ReidDataModule
from reid_lab.model import ReidModule
from reid_lab.paths import last_checkpoint
from reid_lab.provenance import provenance
from reid_lab.publish import describe, finish, publish
from reid_lab.report import write_report
from reid_lab.results import write_json
from reid_lab.settings import check, find_checkpoint

log = logging.getLogger(__name__)
TERMINATED = 143  # what shells call the end by SIGTERM


def run(cfg: DictConfig) -> dict[str, float]:
    """Do what the config says and leave everything in its `run_dir`.

    Returns:
        The test's metrics by name, e.g. `test/fusion/rank1`.

    Raises:
        ConfigError: everything that is wrong with the config or the data, before the first
            batch, in one message.
    """
    started = time.time()
    check(cfg)
    folder = Path(cfg.run_dir)
    checkpoint = find_checkpoint(cfg)
    size = None
    if checkpoint and cfg.task == "test":
        given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
        size = use_trained_size(cfg, checkpoint, given)
    quiet()
    if cfg.allocator == "keep":
        keep_blocks()
    prepare_torch(cfg)
    data, trainer = build_data(cfg), build_trainer(cfg)
    # another data set may test it: its classifier stays what it was
    trained = identities_of(checkpoint) if checkpoint and cfg.task == "test" else None
    model = build_model(cfg, trained or data.identities)
    if checkpoint:
        take_weights(model, checkpoint)  # now, as what does not fit is no reason to write anything
    if trainer.is_global_zero:
        write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        data.render()
        notes = [*data.benchmark.notes, *([size] if size else [])]
        for note in notes:
            log.warning(note)
    try:
        if trainer.is_global_zero:
            describe(
                trainer.loggers, cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
            )
        if cfg.task == "fit":
            fit(trainer, model, data, checkpoint, folder)
            checkpoint = None  # test what was just trained
        metrics = test(trainer, model, data, checkpoint)
        if trainer.is_global_zero:
            write_summary(cfg, trainer, data, metrics, time.time() - started, notes)
            if (folder / "results" / "exits.csv").is_file():  # callbacks.ranking is not null
                print(f"report: {write_report(folder, [Path(run) for run in cfg.compare])}")
                publish(folder, trainer.loggers)
    except SystemExit as stopped:
        # Lightning's own, on SIGTERM, has no code: a run without results is no success
        raise SystemExit(stopped.code or TERMINATED) from stopped
    finally:
        finish(trainer.loggers)
    return metrics


def quiet() -> None:
    """Leave out what Lightning says about itself; what it says about the run stays."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        "`isinstance\\(treespec, LeafSpec",  # its own use of torch
        "The number of training batches",  # an epoch is shorter than the logging interval
        "The .*_dataloader.* does not have many workers",  # workers=0 is a choice
        ".*litlogger",
        "`LightningModule.configure_optimizers` returned `None`",  # closed forms have none
        "`training_step` returned `None`",
    ):
        warnings.filterwarnings("ignore", message)


def prepare_torch(cfg: DictConfig) -> None:
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)


def fit(
    trainer: pl.Trainer,
    model: ReidModule,
    data: ReidDataModule,
    checkpoint: Path | None,
    folder: Path,
) -> None:
    """Train; when it is interrupted, say how to go on."""
    try:
        trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        if last_checkpoint(folder).is_file():
            print(
                f"interrupted at step {trainer.global_step}; go on from {last_checkpoint(folder)} "
                "with the same command and ckpt_path=last",
                file=sys.stderr,
            )
        raise


def test(
    trainer: pl.Trainer, model: ReidModule, data: ReidDataModule, checkpoint: Path | None
) -> dict[str, float]:
    trainer.test(model, data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def write_summary(
    cfg: DictConfig,
    trainer: pl.Trainer,
    data: ReidDataModule,
    metrics: dict[str, float],
    elapsed: float,
    notes: list[str],
) -> None:
    """`results/summary.json`: what ran, on what, by which command, and what came out."""
    rankings = [c for c in trainer.callbacks if isinstance(c, RankingEvaluation)]  # type: ignore[attr-defined]
    summary = {
        "name": cfg.name,
        "task": cfg.task,
        "seed": cfg.seed,
        **provenance(),
        "elapsed_s": round(elapsed, 1),
        "dataset": {"name": data.benchmark.name, **data.benchmark.counts()},
        "notes": notes,
        "metrics": {name: value for name, value in metrics.items() if name.startswith("test/")},
        "mul_adds": rankings[0].mul_adds if rankings else {},
        "protocol": asdict(rankings[0].protocol(trainer)) if rankings else {},
    }
    write_json(Path(cfg.run_dir) / "results" / "summary.json", summary)
