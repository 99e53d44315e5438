"""Run a function on several processes of this machine in a gloo group, with one thread each."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Work = Callable[..., dict[str, Any]]  # called with (rank, processes, *arguments)


def together(processes: int, work: Work, *arguments: object) -> list[dict[str, Any]]:
    """Return what `work` returned in each process: numbers, or what `torch.load` takes."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        given = (processes, port, Path(folder), work, arguments)
        torch.multiprocessing.spawn(_process, given, processes)
        paths = [Path(folder, f"{rank}.pt") for rank in range(processes)]
        return [torch.load(path, weights_only=True) for path in paths]


def _process(
    rank: int, processes: int, port: int, folder: Path, work: Work, arguments: tuple[object, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=processes)
    torch.save(work(rank, processes, *arguments), folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
