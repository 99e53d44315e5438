"""Compare our loader, training step, inference and ranking with plain code and other toolboxes.

python -m experiments.bench [--only SECTION] [--out FOLDER]       (make bench)

Toolboxes that cannot be imported are skipped (see README.md).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from experiments.bench.exchange import Exchanges, bench_exchange
from experiments.bench.inference import Inference, bench_inference
from experiments.bench.loader import bench_gpu, bench_loader, bench_memory
from experiments.bench.people import write_people
from experiments.bench.ranking import bench_ranking
from experiments.bench.recipes import Recipes, bench_recipes
from experiments.bench.shares import Shares, bench_shares
from experiments.bench.step import bench_step
from experiments.bench.timing import ROUNDS, Comparison
from reid_lab.files.tables import write_csv
from reid_lab.results.provenance import commit, machine
from reid_lab.run.messages import silence_lightning

SECTIONS: dict[
    str, Callable[[Path], Comparison | Exchanges | Inference | Recipes | Shares | str]
] = {
    "loader": partial(bench_loader, size=(256, 128), with_peers=True),
    "small": partial(bench_loader, size=(128, 64), with_peers=False),
    "memory": bench_memory,
    "gpu": bench_gpu,
    "step": bench_step,
    "inference": lambda root: bench_inference(),
    "exchange": lambda root: bench_exchange(),
    "ranking": lambda root: bench_ranking(),
    "shares": lambda root: bench_shares(),
    "recipes": bench_recipes,  # last: it changes the allocator of the process
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench")
    parser.add_argument(
        "--only", choices=list(SECTIONS), action="append", help="sections; all by default"
    )
    parser.add_argument("--out", type=Path, help="also write FOLDER/SECTION.csv")
    args = parser.parse_args()
    silence_lightning()
    console = Console(width=100)
    console.print(f"{machine()}; torch {torch.__version__}, {torch.get_num_threads()} threads;")
    console.print(f"commit {commit()}; seed 0; medians of {ROUNDS} interleaved rounds")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_people(root)
        for name in args.only or SECTIONS:
            result = SECTIONS[name](root)
            console.print(f"{name}: {result}" if isinstance(result, str) else result.table())
            if args.out and not isinstance(result, str):
                args.out.mkdir(parents=True, exist_ok=True)
                measured = {"commit": commit(), "machine": machine(), "seed": 0}
                write_csv(args.out / f"{name}.csv", [row | measured for row in result.rows()])


if __name__ == "__main__":
    main()
