"""Processes of a run end together, and one on each machine reports that another was lost."""

from __future__ import annotations

import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from reid_lab.errors import UserError
from reid_lab.run.messages import command_of

LOST = ".lost-"  # prefix of a file, before a machine's name, in a run that lost a process


@contextmanager
def end_together(trainer: pl.Trainer) -> Iterator[None]:
    """End the other processes of a run with this one; they would wait for it forever.

    They are killed, since a waiting process takes no other signal; files are written by the first
    one. If a process was lost, one of the remaining ones on each machine raises an error.

    Raises:
        UserError: a process was lost, and this one reports it.
        SystemExit: a process was lost, and another one reports it.
    """
    try:
        yield
    except BaseException as error:
        if trainer.world_size == 1:
            raise
        launcher = trainer.strategy.launcher  # None: torchrun or SLURM started this process
        others = [process.poll() for process in getattr(launcher, "procs", ())]
        if launcher is not None:
            launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
        ended = ", ".join(f"status {status}" for status in others if status)
        if not isinstance(error, RuntimeError) or not (ended or is_connection_error(error)):
            raise
        if not reports_lost(trainer):
            raise SystemExit(1) from error
        raise UserError(
            f"another process of the run ended ({ended or 'on another machine, or by itself'}: "
            "killed, or an error that it printed): the run ends, too; resume with "
            f"{command_of('ckpt_path=last', machines=trainer.num_nodes)}"
        ) from error


def reports_lost(trainer: pl.Trainer) -> bool:
    """Whether this process reports that another was lost, as the only one on its machine.

    With Lightning's processes, it is the one that started the others, which it also kills. With
    torchrun and SLURM, it is the first remaining one, as any may be lost.

    Its file in the run's folder stays until the next run there begins: the processes notice the
    loss at different times, and none knows whether all others have. Removed earlier, a later one
    would report the loss again.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    first = trainer.local_rank == 0
    if isinstance(environment, LightningEnvironment):
        return first
    try:
        (Path(trainer.default_root_dir) / f"{LOST}{platform.node()}").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # nothing can be written there
        return first
    return True


def remove_lost_markers(folder: Path) -> None:
    """Remove the files of `reports_lost` in the folder of a run, when the next one begins there."""
    for marker in folder.glob(f"{LOST}*"):
        marker.unlink(missing_ok=True)


def is_connection_error(error: RuntimeError) -> bool:
    """Whether torch raised it because another process could not be reached."""
    known = isinstance(error, torch.distributed.DistError)  # NCCL's, and the store's
    return known or "gloo" in str(error) or "by peer" in str(error)
