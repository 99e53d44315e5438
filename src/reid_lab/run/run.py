"""One run: check, build, fit, test, report."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from reid_lab.callbacks import ElapsedTime, RankingEvaluation
from reid_lab.callbacks.elapsed import keeps_time
from reid_lab.callbacks.embedding import callbacks_of
from reid_lab.config.build import build_model, build_trainer
from reid_lab.config.cards import changed_backbones, give_card
from reid_lab.config.from_checkpoint import (
    LoadedCheckpoint,
    take_weights,
    use_trained_crop,
    use_trained_size,
)
from reid_lab.config.make import make
from reid_lab.config.optimisers import check_optimisers
from reid_lab.config.paths import last_checkpoint
from reid_lab.config.settings import check, given_overrides
from reid_lab.cost.allocator import keep_blocks
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.notes import Info
from reid_lab.errors import UserError
from reid_lab.files.atomic import first_disk_full, is_disk_full, write_text
from reid_lab.interrupt import Interrupted, status_of
from reid_lab.model import ReidModule
from reid_lab.report import run_of, write_report
from reid_lab.results import CONFIG, NEW, Results, Summary, begin_test, publish_results
from reid_lab.results.provenance import provenance, training_of
from reid_lab.run.fit import best_of, fit
from reid_lab.run.messages import command_of, shown, silence_lightning, slow_precision
from reid_lab.run.outcome import Outcome
from reid_lab.run.processes import end_together, remove_lost_markers
from reid_lab.run.publish import finish_wandb, log_config, publish

log = logging.getLogger(__name__)
TIME_UNKNOWN = (
    "elapsed_s counts from here on: the checkpoint is of an earlier version, which does not "
    "record elapsed time"
)


@dataclass
class Progress:
    """How far a run has come, for the message of an interruption."""

    folder: Path
    doing: str = "checking the config"
    trained: bool = False
    machines: int = 1

    def resume(self) -> str:
        """How to resume."""
        last = last_checkpoint(self.folder)
        if last.is_file():
            what = " (it is only tested)" if self.trained else ""
            command = command_of("ckpt_path=last", machines=self.machines)
            return f"resume from {last}{what} with {command}"
        command = command_of(machines=self.machines)
        return f"no checkpoint was written yet: start again with {command}"


def run(cfg: DictConfig, outcome: Outcome | None = None) -> dict[str, float]:
    """Train and test as configured; all results are written to `run_dir`.

    Notes and warnings are logged below `reid_lab`, at INFO and WARNING. Where no handler is
    configured (Hydra's command line has one), they are shown on stderr.

    Args:
        cfg: the composed config.
        outcome: takes the results, to show them; None logs the path of the report.

    Returns:
        The test's metrics by name, e.g. `test/fusion/rank1`.

    Raises:
        ConfigError: everything that is wrong with the config or the data, before the first
            batch, in one message.
        DivergedError: a loss that is not finite.
        DiskFullError: there is no space to write to.
        Interrupted: Ctrl-C or SIGTERM; its message says how to resume.
    """
    progress = Progress(Path(str(cfg.get("run_dir"))))  # not checked yet
    try:
        with shown():
            return _run(cfg, progress, outcome or Outcome())
    except BaseException as error:
        status = status_of(error)
        if status is not None:
            message = f"interrupted while {progress.doing}; {progress.resume()}"
            raise Interrupted(status, message) from error
        if is_disk_full(error):
            raise first_disk_full(error, progress.folder) from error
        if isinstance(error, UserError):
            remove_unused_folder(progress.folder)
        raise


def remove_unused_folder(folder: Path) -> None:
    """Remove the folder of a refused run, if it holds only Hydra's config and empty log."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.RUN:
        return  # a sweep's folder keeps a place for each of its jobs
    with suppress(OSError):
        for file in folder.iterdir():
            if file.name != ".hydra" and (file.suffix != ".log" or file.stat().st_size):
                return
        shutil.rmtree(folder)
        runs = Path("runs").absolute()
        for parent in folder.parents:
            if parent.is_relative_to(runs):
                parent.rmdir()  # fails, and ends the loop, if there are other runs


@dataclass
class Prepared:
    """A run that is ready to train or test.

    Attributes:
        checkpoint: the checkpoint to test, or to resume from at step `start`.
        notes: remarks on the data and the model; the first process has them, the others none.
    """

    trainer: pl.Trainer
    model: ReidModule
    data: ReidDataModule
    checkpoint: Path | None
    start: int
    notes: list[str]


def _run(cfg: DictConfig, progress: Progress, outcome: Outcome) -> dict[str, float]:
    started = time.monotonic()
    gc.collect()  # an earlier run's network and images, which would stay on the device
    prepared = _prepare(cfg, progress)
    trainer, model, data = prepared.trainer, prepared.model, prepared.data
    checkpoint = prepared.checkpoint
    (elapsed,) = callbacks_of(trainer, ElapsedTime)
    elapsed.started = started
    try:
        if trainer.is_global_zero:
            log_config(
                trainer.loggers, cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
            )
        if cfg.task == "fit":
            progress.doing = "training"
            fit(trainer, model, data, checkpoint, cfg, prepared.start)
            checkpoint = best_of(trainer, prepared.notes)
        progress.doing, progress.trained = "testing", True
        metrics, results = test(trainer, model, data, checkpoint, cfg)
        if results.exits:
            outcome.exits(results.exits)
        if trainer.is_global_zero:
            content = Summary(
                **summary(cfg, trainer, data, metrics),
                notes=prepared.notes,
                elapsed_s=round(elapsed.run, 1),
                training=training_of(checkpoint.parent.parent if checkpoint else progress.folder),
                card=model.card.to_dict() if model.card else None,
                shared_exit=model.shared_exit,
            )
            _write_report(cfg, content, results, trainer, progress, outcome)
    finally:
        finish_wandb(trainer.loggers)
    return metrics


def _prepare(cfg: DictConfig, progress: Progress) -> Prepared:
    """Check the config, build the parts of the run, and log its notes.

    On return, Lightning has the only reference to the content of the checkpoint.
    """
    inputs = check(cfg)
    data, checkpoint, state = inputs.data, inputs.checkpoint, inputs.state
    found = [*inputs.notes]
    if state:
        found += _use_trained_images(cfg, state, data)
    silence_lightning()
    if cfg.allocator == "keep":
        keep_blocks()
    prepare_torch(cfg)
    loaded = LoadedCheckpoint(checkpoint, state) if checkpoint and state else None
    trainer = build_trainer(cfg, loaded)
    progress.machines = trainer.num_nodes
    identities = data.identities
    if state and cfg.task == "test":  # on another data set, too, its classifier stays what it was
        identities = state["hyper_parameters"]["model"].get("identities") or identities
    model = build_model(cfg, identities, replaced=bool(checkpoint and state))
    # now, as what does not fit is no reason to write anything
    start = take_weights(model, state, checkpoint) if checkpoint and state else 0
    if checkpoint and state and cfg.task == "fit":
        check_optimisers(model, trainer, state, checkpoint)
    found += changed_backbones(model, cfg) + slow_precision(trainer)
    if state and cfg.task == "fit" and start and not keeps_time(state):
        found.append(Info(TIME_UNKNOWN))
    notes: list[str] = []
    if trainer.is_global_zero:
        if cfg.task == "test" and not last_checkpoint(progress.folder).is_file():
            write_text(progress.folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
        remove_lost_markers(progress.folder)
        progress.doing = "making the data set"
        data.render()
        give_card(model, cfg, data.benchmark.name, state)  # synthetic people are read once rendered
        notes = data.notes(cfg.task == "fit", trainer.world_size) + found
        for note in notes:
            log.log(logging.INFO if isinstance(note, Info) else logging.WARNING, note)
    return Prepared(trainer, model, data, checkpoint, start, notes)


def _use_trained_images(cfg: DictConfig, state: dict[str, Any], data: ReidDataModule) -> list[str]:
    """Set the size and crop of images to those of a checkpoint's training; notes on changes."""
    given = given_overrides()
    uses = (use_trained_size, use_trained_crop) if cfg.task == "test" else (use_trained_crop,)
    notes = [note for use in uses if (note := use(cfg, state, given))]
    data.transforms = make(cfg, "dataset.transforms")
    return notes


def _write_report(
    cfg: DictConfig,
    content: Summary,
    results: Results,
    trainer: pl.Trainer,
    progress: Progress,
    outcome: Outcome,
) -> None:
    """Publish a test's results in the run's folder, then its report, and both to W&B."""
    folder = progress.folder
    content.write(folder / NEW)
    published = publish_results(folder)
    if results.exits:  # callbacks.ranking is not null
        progress.doing = f"drawing the report; the results are in {published}"
        finished = run_of(folder, content, results)
        outcome.report(write_report(finished, [Path(each) for each in cfg.compare]))
        publish(finished, trainer.loggers)


def prepare_torch(cfg: DictConfig) -> None:
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision(cfg.matmul_precision)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)


def test(
    trainer: pl.Trainer,
    model: ReidModule,
    data: ReidDataModule,
    checkpoint: Path | None,
    cfg: DictConfig,
) -> tuple[dict[str, float], Results]:
    """Test, and write the results; earlier ones stay until they are published.

    Returns:
        The metrics by name, and the tables of the ranking callback; empty without it.
    """
    folder = Path(cfg.run_dir)
    if trainer.is_global_zero:
        write_text(begin_test(folder) / CONFIG, OmegaConf.to_yaml(cfg, resolve=True))
    results = Results()
    try:
        with end_together(trainer):
            trainer.ckpt_path = checkpoint  # callbacks look beside it before it is loaded
            trainer.test(model, data, weights_only=True, verbose=False)
            if trainer.is_global_zero:
                rankings = callbacks_of(trainer, RankingEvaluation)
                results = rankings[0].results if rankings else results
                results.write(folder / NEW)
    except BaseException:
        if trainer.is_global_zero:
            shutil.rmtree(folder / NEW, ignore_errors=True)  # a part is of no use
        raise
    return {name: float(value) for name, value in trainer.callback_metrics.items()}, results


def summary(
    cfg: DictConfig, trainer: pl.Trainer, data: ReidDataModule, metrics: dict[str, float]
) -> dict[str, Any]:
    """What ran, on what, by which command, and what came out."""
    rankings = callbacks_of(trainer, RankingEvaluation)
    return {
        "name": cfg.name,
        "task": cfg.task,
        "seed": cfg.seed,
        **provenance(),
        "dataset": {"name": data.benchmark.name, **data.benchmark.counts()},
        "metrics": {name: value for name, value in metrics.items() if name.startswith("test/")},
        "mul_adds": rankings[0].mul_adds if rankings else {},
        "protocol": asdict(rankings[0].protocol(trainer)) if rankings else {},
    }
