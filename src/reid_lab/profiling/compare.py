"""The gain of keeping glibc's blocks: both ways in turns, each in a separate process.

`--seconds` are divided among the rounds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from reid_lab.errors import UserError
from reid_lab.profiling import show
from reid_lab.results.rows.cost import COST, CostRow

ROUNDS = 3
WAYS = ("default", "keep")


def compare(args: Namespace) -> int:
    """Print images/s with and without kept blocks, and their ratio.

    Raises:
        UserError: the command fails.
    """
    rates: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            for row in _measured(args, way):
                rates[way][f"{row.exit}, one image"].append(1e3 / row.latency_p50_ms)
                rates[way][f"{row.exit}, batch {row.batch}"].append(row.images_per_second)
    show.ratios(rates["keep"], rates["default"])
    return 0


def _measured(args: Namespace, way: str) -> list[CostRow]:
    with TemporaryDirectory() as folder:
        table = Path(folder) / "cost.csv"
        options = {name: getattr(args, name) for name in ("batch", "repeats", "device")}
        options["seconds"] = args.seconds / ROUNDS
        if args.checkpoint is not None:
            options["checkpoint"] = args.checkpoint
        words = [f"--{name}={value}" for name, value in options.items()]
        command = [sys.executable, "-m", "reid_lab.cli", "cost", *args.overrides, *words]
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
