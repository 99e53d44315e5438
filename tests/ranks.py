"""Processes that share a run, forked as `tests.launcher` forks commands.

They are given what a cluster gives them, so that none has to start the others.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.launcher import Launched, Launcher, Running, Starter
from tests.undrawn import UNDRAWN


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def start_ranks(
    starter: Launcher | Starter,
    module: str,
    words: Sequence[str],
    folder: Path,
    of: str = "LOCAL_RANK",
    count: int = 2,
) -> list[Running | Launched]:
    """So many processes of `python -m module words...`.

    Of one machine; with `of="NODE_RANK"` of a machine each.
    """
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        starter.start(
            module, words, folder, folder / f"rank{i}.txt", {**meet, **UNDRAWN, of: str(i)}
        )
        for i in range(count)
    ]


def end_well(processes: Iterable[Running | Launched]) -> None:
    for process in processes:
        assert process.wait(300) == 0, process.text()
        assert "sync_dist" not in process.text()  # advice that does not apply
