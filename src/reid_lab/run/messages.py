"""Messages of a run: its command, its notes without Hydra's log, and warnings in one line."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

SOURCE = Path(__file__).parents[1]
_lightnings_format = warnings.formatwarning


def command_of(*more: str, machines: int = 1) -> str:
    """The command of this run, to be copied into a shell; in words where it is not known.

    Args:
        more: overrides that replace those of the same keys.
        machines: machines of the run; each of several has a command of its own.
    """
    config = HydraConfig.get() if HydraConfig.initialized() else None
    launched = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()  # torchrun, srun
    # a job of a sweep, or of Python, is not started by such a command either
    if config is None or config.mode != RunMode.RUN or launched or machines > 1:
        return " and ".join(["the same command", *more])
    replaced = {word.partition("=")[0] for word in more} | {"hydra.mode"}
    given = [*config.overrides.task, *config.overrides.hydra]
    kept = [word for word in given if word.partition("=")[0].lstrip("+") not in replaced]
    return shlex.join(["python", "-m", "reid_lab", *kept, *more])


@contextmanager
def shown() -> Iterator[None]:
    """Show what `reid_lab` logs from INFO on, unless the application has handlers of its own."""
    ours = logging.getLogger("reid_lab")
    if ours.hasHandlers():
        yield
        return
    handler, level = logging.StreamHandler(), ours.level
    handler.setFormatter(_Noted())
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)


class _Noted(logging.Formatter):
    """'note: ...', 'warning: ...'"""

    def format(self, record: logging.LogRecord) -> str:
        kind = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        return f"{kind}: {super().format(record)}"


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
