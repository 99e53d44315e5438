"""Ranges of Lightning's options, which Lightning does not annotate.

Other values end in a traceback, or are accepted without effect.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePath
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Predicate

from reid_lab.types import INT32, Count, Fraction, NonNegative, NonNegativeInt

Endless = Count | Literal[-1]
PositiveFraction = Annotated[float, Gt(0), Le(1)]


def below(path: str) -> bool:
    """that is a path below the folder, without .."""
    parts = PurePath(path.replace("\\", "/"))
    return not parts.is_absolute() and ".." not in parts.parts


Below = Annotated[str, Predicate(below)]
Batches = NonNegativeInt | Fraction | None  # so many, or a share of all

# weights stay in float32: closed forms, running means and small updates need its digits
Precision = Literal[32, 16, "32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed"]
TRAINER: dict[str, Any] = {
    "precision": Precision | None,
    "devices": Annotated[int, Ge(-1), Le(65_536)] | list[NonNegativeInt] | str,  # -1: all
    "num_nodes": Annotated[int, Ge(1), Le(65_536)],
    "max_steps": Endless,  # 0 would train nothing: task=test tests without training
    "max_epochs": Endless | None,
    "min_steps": NonNegativeInt | None,
    "min_epochs": NonNegativeInt | None,
    "fast_dev_run": NonNegativeInt | bool,
    "limit_train_batches": Count | PositiveFraction | None,
    "limit_val_batches": Batches,
    "limit_test_batches": Count | PositiveFraction | None,
    "limit_predict_batches": Batches,
    "overfit_batches": NonNegativeInt | Fraction,
    "val_check_interval": Count | PositiveFraction | str | timedelta | dict[str, int] | None,
    "check_val_every_n_epoch": Count | None,
    "num_sanity_val_steps": Annotated[int, Ge(-1), Le(INT32)] | None,
    "log_every_n_steps": NonNegativeInt | None,  # 0: never
    "accumulate_grad_batches": Count,
    "gradient_clip_val": NonNegative | None,
    "reload_dataloaders_every_n_epochs": NonNegativeInt,
}
CHECKPOINT: dict[str, Any] = {
    "filename": Below | None,
    "save_top_k": Annotated[int, Ge(-1), Le(INT32)],  # -1: all
    "every_n_train_steps": NonNegativeInt | None,  # 0: never
    "every_n_epochs": NonNegativeInt | None,
}
# of a logger: save_dir/name/version
FOLDER: dict[str, Any] = {"name": Below | None, "version": NonNegativeInt | Below | None}
RANGES = {  # class -> parameter -> what it may be
    "pytorch_lightning.trainer.trainer.Trainer": TRAINER,
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": CHECKPOINT,
    "pytorch_lightning.loggers.csv_logs.CSVLogger": {"flush_logs_every_n_steps": Count, **FOLDER},
    "pytorch_lightning.loggers.tensorboard.TensorBoardLogger": FOLDER,
}
