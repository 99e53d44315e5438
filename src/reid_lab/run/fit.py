"""Training, with a record of it."""

from __future__ import annotations

import logging
import shutil
from datetime import datetime
from pathlib import Path
from typing import cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from reid_lab.callbacks import BestCheckpoint, ElapsedTime
from reid_lab.callbacks.embedding import callbacks_of
from reid_lab.callbacks.fitted import FittedAfterTraining
from reid_lab.checkpoint import CheckpointError
from reid_lab.compat.lightning import count_last_batch
from reid_lab.config.paths import last_checkpoint
from reid_lab.dataset import ReidDataModule
from reid_lab.errors import UserError
from reid_lab.files.atomic import replacing, write_text
from reid_lab.files.tables import write_json
from reid_lab.model import ReidModule
from reid_lab.model.base import DivergedError
from reid_lab.results import CONFIG
from reid_lab.results.provenance import TRAINING, provenance, training_of
from reid_lab.run.processes import end_together

log = logging.getLogger(__name__)
# what Lightning and torch raise for a state that is not theirs
UNRESTORABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)


class ConfigFile(pl.Callback):
    """Writes `config.yaml` when the training begins: until then the checkpoint may be refused.

    Args:
        folder: the run's folder.
        cfg: the run's config.
    """

    def __init__(self, folder: Path, cfg: DictConfig) -> None:
        self.path, self.text = folder / CONFIG, OmegaConf.to_yaml(cfg, resolve=True)
        self.written = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        if not self.written:
            write_text(self.path, self.text)
        self.written = True


def fit(
    trainer: pl.Trainer,
    model: ReidModule,
    data: ReidDataModule,
    checkpoint: Path | None,
    cfg: DictConfig,
    start: int,
) -> None:
    """Train from step `start`, and write the config and a record of the training.

    A checkpoint that is refused leaves the run's folder as it was.

    In the record, `elapsed_s` are the seconds of all parts of a training that was resumed;
    `from_step`, the command, the commit and the machine are those of the last part.
    """
    folder = Path(cfg.run_dir)
    config = ConfigFile(folder, cfg)
    trainer.callbacks.insert(0, config)  # type: ignore[attr-defined]
    try:
        with end_together(trainer):
            trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    except DivergedError as error:
        last = last_checkpoint(folder)
        kept = f"{last} is of an earlier step" if last.is_file() else "no checkpoint was written"
        raise DivergedError(f"{error}. {kept}") from error
    except UNRESTORABLE as error:
        if checkpoint is None or trainer.global_step > start or isinstance(error, UserError):
            raise
        raise CheckpointError(
            f"ckpt_path={checkpoint}: the training cannot be resumed from its state of the loops, "
            f"optimisers and callbacks ({type(error).__name__}: {error}). Give a checkpoint that "
            "this version wrote with these settings, or test it with task=test"
        ) from error
    count_last_batch(trainer)
    if not trainer.is_global_zero:
        return
    config.write()  # if there was nothing to train
    if trainer.global_step > start:
        took = round(callbacks_of(trainer, ElapsedTime)[0].training, 1)
        steps = {"from_step": start, "steps": trainer.global_step, "elapsed_s": took}
        ended = {"ended": f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}"}
        write_json(folder / TRAINING, {**provenance(), "seed": cfg.seed, **steps, **ended})
    elif checkpoint:
        log.info("nothing to train: %s is at step %s already; it is tested", checkpoint, start)
        copy_training(checkpoint, folder)


def best_of(trainer: pl.Trainer, notes: list[str]) -> Path | None:
    """The checkpoint to test after a training, with a note; None for the last weights."""
    found = [c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint) and c.best]
    if not found:
        return None
    best = cast(Path, found[0].best)
    for fitted in callbacks_of(trainer, FittedAfterTraining):
        fitted.fit_on(best)
    if trainer.is_global_zero:  # the note is read from the file
        notes.append(found[0].note)
        log.info(found[0].note)
    return best


def copy_training(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint without further training, and its record, to a new run."""
    last = last_checkpoint(folder)
    if last.resolve() == checkpoint.resolve():
        return
    with replacing(last) as beside:
        shutil.copyfile(checkpoint, beside)
    if record := training_of(checkpoint.parent.parent):
        write_json(folder / TRAINING, record)
