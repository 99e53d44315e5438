"""What ten backbones cost on this machine, and how well Mul-Adds predict it.

python -m experiments.backbones [--rounds 3] [--threads 1] [--height 256] [--width 128]

Each network runs in a process of its own, which gives its peak memory; the rounds go through all
networks one after the other, so that a machine that is busy for a while slows all of them. Of the
rounds, the fastest counts. Weights are random: they do not change the cost.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr

from experiments.backbones.plot import plot
from experiments.tables import Rows, read, write
from reid_lab.cli.command import count
from reid_lab.results.provenance import commit, machine

HERE = Path(__file__).parent
NETWORKS: dict[str, tuple[str, ...]] = {
    "ResNet-50": ("backbone=resnet50",),
    "ResNet-18": ("backbone=resnet18",),
    "OSNet x1.0": ("backbone=osnet",),
    "OSNet x0.25": ("backbone=osnet", "backbone.width=0.25"),
    "MobileNetV2": ("backbone=timm", "backbone.name=mobilenetv2_100"),
    "EfficientNet-Lite0": ("backbone=timm", "backbone.name=efficientnet_lite0"),
    "GhostNet": ("backbone=timm", "backbone.name=ghostnet_100"),
    "RegNetY-400MF": ("backbone=timm", "backbone.name=regnety_004"),
    "ConvNeXt-Atto": ("backbone=timm", "backbone.name=convnext_atto"),
    "ViT-Tiny": ("backbone=timm_vit", "backbone.name=vit_tiny_patch16_224"),
}
# of a row of `cost.csv` -> the column here
KEPT = {
    "mul_adds": "mul_adds",
    "parameters": "parameters",
    "latency_p50_ms": "p50_ms",
    "images_per_second": "images_per_second",
    "peak_memory_bytes": "peak_memory_bytes",
}
FASTEST = {"p50_ms": min, "images_per_second": max}  # of the rounds; others are the same in all


def main(argv: Sequence[str] | None = None) -> int:
    args = options(argv)
    rounds = [
        {name: measure(overrides, args) for name, overrides in NETWORKS.items()}
        for _ in range(args.rounds)
    ]
    rows = [{"network": name, **best([found[name] for found in rounds])} for name in NETWORKS]
    settings = {"image": f"{args.height}x{args.width}", "batch": args.batch}
    settings |= {"threads": args.threads, "rounds": args.rounds}
    settings |= {"machine": machine(), "torch": torch.__version__, "commit": commit()}
    write(args.out / "backbones.csv", [{**row, **settings} for row in rows])
    plot(rows, args.out / "backbones.png")
    print(f"{'network':<20}" + "".join(f"{column:>20}" for column in KEPT.values()))
    for row in sorted(rows, key=lambda row: float(row["mul_adds"])):
        costs = "".join(f"{float(row[column]):>20.4g}" for column in KEPT.values())
        print(f"{row['network']:<20}{costs}")
    for column, rho in correlations(rows).items():
        print(f"Spearman correlation of Mul-Adds and {column}: {rho:.2f}")
    return 0


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.backbones")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument("--batch", type=count, default=32, help="for images/s")
    parser.add_argument("--height", type=count, default=256)
    parser.add_argument("--width", type=count, default=128)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the table and the plot")
    return parser.parse_args(argv)


def measure(overrides: Sequence[str], args: argparse.Namespace) -> dict[str, str]:
    """Run `reid-lab cost` on a classifier without its classifier: the backbone and its pool."""
    size = [f"dataset.transforms.{side}={getattr(args, side)}" for side in ("height", "width")]
    words = ["model=classifier", *overrides, "backbone.weights=null", *size]
    words += [f"threads={args.threads}", "callbacks.ranking.references=null"]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "cost.csv"
        flags = [f"--batch={args.batch}", "--device=cpu", f"--csv={table}"]
        command = [sys.executable, "-m", "reid_lab.cli", "cost", *flags, *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (row,) = [row for row in read(table) if row["kind"] == "exit"]
    return {column: str(row[key]) for key, column in KEPT.items()}


def best(rounds: Sequence[dict[str, str]]) -> dict[str, Any]:
    """One row of several: the fastest times, and how far the slowest is from it."""
    row: dict[str, Any] = dict(rounds[0])
    for column, choose in FASTEST.items():
        row[column] = choose(float(found[column]) for found in rounds)
    row["peak_memory_bytes"] = statistics.median(float(r["peak_memory_bytes"]) for r in rounds)
    slowest = max(float(found["p50_ms"]) for found in rounds)
    row["p50_spread"] = round(slowest / row["p50_ms"] - 1, 3)
    return row


def correlations(rows: Rows) -> dict[str, float]:
    """Spearman's rank correlation of Mul-Adds with each other cost."""
    costs = {
        "latency": [float(row["p50_ms"]) for row in rows],
        "seconds per image in batches": [1 / float(row["images_per_second"]) for row in rows],
        "peak memory": [float(row["peak_memory_bytes"]) for row in rows],
        "parameters": [float(row["parameters"]) for row in rows],
    }
    mul_adds = [float(row["mul_adds"]) for row in rows]
    return {name: float(spearmanr(mul_adds, values).statistic) for name, values in costs.items()}


if __name__ == "__main__":
    sys.exit(main())
