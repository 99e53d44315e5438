"""The gain of keeping glibc's blocks: both ways in turns, each in a separate process.

The seconds are divided among the rounds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from reid_lab.errors import UserError
from reid_lab.output.arguments import texts
from reid_lab.results.rows.cost import COST, CostRow

ROUNDS = 3
WAYS = ("default", "keep")


@dataclass(frozen=True)
class AllocatorRates:
    """Exit and batch -> images/s of each round, with kept blocks and with glibc's default."""

    keep: Mapping[str, Sequence[float]]
    default: Mapping[str, Sequence[float]]


def compare_allocators(
    overrides: str | Sequence[str] = (),
    checkpoint: Path | str | None = None,
    *,
    batch_size: int = 32,
    repeats: int = 50,
    seconds: float = 30.0,
    device: str = "auto",
) -> AllocatorRates:
    """Measure images/s with and without kept blocks; arguments as of `measure_costs`.

    Raises:
        UserError: invalid overrides, device or checkpoint.
    """
    words = texts("overrides", overrides)
    options = [f"--batch-size={batch_size}", f"--repeats={repeats}", f"--device={device}"]
    options += [f"--seconds={seconds / ROUNDS}"]
    options += [] if checkpoint is None else [f"--checkpoint={checkpoint}"]
    rates: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            for row in _measured([*words, *options], way):
                rates[way][f"{row.exit}, one image"].append(1e3 / row.latency_p50_ms)
                rates[way][f"{row.exit}, batch {row.batch}"].append(row.images_per_second)
    return AllocatorRates(rates["keep"], rates["default"])


def _measured(words: Sequence[str], way: str) -> list[CostRow]:
    """The costs that a command of its own measures."""
    with TemporaryDirectory() as folder:
        table = Path(folder) / "cost.csv"
        command = [sys.executable, "-m", "reid_lab.cli", "cost", *words]
        # variables of the environment would apply to both
        ours = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        done = subprocess.run(
            [*command, f"--allocator={way}", f"--csv={table}"],
            capture_output=True,
            text=True,
            env=ours,
        )
        if done.returncode:
            raise UserError(done.stderr.rpartition("error: ")[2].strip())
        return COST.read(table)
