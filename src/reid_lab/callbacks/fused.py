"""Fused optimisers: one kernel updates all parameters."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from reid_lab.types import Role

DEVICES = ("cpu", "cuda")  # devices with fused kernels of Adam, AdamW and SGD


class FusedOptimizer(pl.Callback):
    """Uses torch's fused kernels for every optimiser that has them.

    They exist for CPUs and CUDA GPUs; on other devices nothing changes. Weights equal those of the
    ordinary step up to rounding, and a training may be resumed with or without this callback.

    Gradient scaling and clipping are left to Lightning, which refuses an optimiser that was
    constructed as fused and wants to divide by the scale itself.

    Args:
        enabled: False leaves the ordinary step.
    """

    role: Role = "running"

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fused = self._fused(trainer)
        for optimizer in trainer.optimizers:
            if "fused" in optimizer.defaults:
                optimizer.defaults["fused"] = fused
                _set(optimizer.param_groups, fused)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Change the checkpoint before it is loaded: its groups replace the optimiser's."""
        for state in checkpoint.get("optimizer_states", []):
            _set(state["param_groups"], self._fused(trainer))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check a resumed optimiser's state: fused kernels would write out of bounds.

        Raises:
            ValueError: a state has another shape than its parameter.
        """
        fused = (o for o in trainer.optimizers if o.defaults.get("fused"))
        for optimizer in fused:
            for parameter, state in optimizer.state.items():
                for name, value in state.items():
                    sized = isinstance(value, Tensor) and value.ndim and name != "step"
                    if sized and value.shape != parameter.shape:
                        raise ValueError(
                            f"the optimiser's {name} has shape {tuple(value.shape)}, its parameter "
                            f"{tuple(parameter.shape)}"
                        )

    def _fused(self, trainer: pl.Trainer) -> bool | None:
        """The `fused` option of a parameter group; None is torch's default."""
        supported = trainer.strategy.root_device.type in DEVICES
        return True if self.enabled and supported else None


def _set(groups: list[dict[str, Any]], fused: bool | None) -> None:
    for group in groups:
        if "fused" in group:
            group["fused"] = fused
