"""Messages of a run: Lightning's messages about itself are silenced, warnings take one line."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

SOURCE = Path(__file__).parents[1]
_lightnings_format = warnings.formatwarning


def slow_precision(trainer: pl.Trainer) -> list[str]:
    """A note if the trainer's CPU has no bfloat16 instructions."""
    capabilities: Callable[[], Mapping[str, Any]] | None
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # torch 2.11
    if trainer.strategy.root_device.type != "cpu" or "bf16" not in trainer.precision:
        return []
    if capabilities is None or any(v for k, v in capabilities().items() if "bf16" in k):
        return []
    return [
        f"trainer.precision={trainer.precision} is slower than 32-true on this CPU, which has no "
        "instructions for bfloat16 (avx512_bf16, amx_bf16): give trainer.precision=32-true"
    ]


def silence_lightning() -> None:
    """Silence Lightning's messages about itself; those about the run are kept."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        "`isinstance\\(treespec, LeafSpec",  # its own use of torch
        "The number of training batches",  # an epoch is shorter than the logging interval
        "The .*_dataloader.* does not have many workers",  # workers=0 is a choice
        ".*litlogger",
        "`LightningModule.configure_optimizers` returned `None`",  # closed forms have none
        "`training_step` returned `None`",
        "Be aware that when using `ckpt_path`",  # a test needs none of the training's callbacks
        "It is recommended to use `self\\.log\\(.*sync_dist",  # the first process has all rows
        "The dirpath has changed",  # of checkpoints: each attempt has a folder of its own
        "Attempting to run cuBLAS",  # of the thread of a first backward pass on a GPU
        "This DataLoader will create",  # more workers than cores: slower, and the same batches
    ):
        warnings.filterwarnings("ignore", message)
    warnings.formatwarning = _in_one_line


def _in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Show only the text of our warnings: the line of code does not help users."""
    if Path(filename).is_relative_to(SOURCE):
        return f"warning: {message}\n"
    return _lightnings_format(message, category, filename, lineno, line)
