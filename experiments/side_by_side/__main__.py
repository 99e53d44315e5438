"""One table of finished runs: accuracy, Mul-Adds, parameters and CPU images/s of the last exit.

python -m experiments.side_by_side RUN ... [--csv FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from experiments.bench.timing import Work, interleaved
from reid_lab.build import load_model
from reid_lab.model import ReidModule

BATCH = 32
COLUMNS = ("run", "exit", "rank1", "mAP", "mul_adds", "parameters", "images_per_second", "commit")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.side_by_side")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--csv", type=Path, help="write the table here, too")
    asked = parser.parse_args()
    models = {run: load_model(run / "checkpoints" / "last.ckpt") for run in asked.runs}
    works = {str(run): embedding(run, model) for run, model in models.items()}
    rates = interleaved(works)
    rows = [row(run, model, statistics.median(rates[str(run)])) for run, model in models.items()]
    table = Table(*COLUMNS)
    for one in rows:
        table.add_row(*map(str, one.values()))
    Console(width=140).print(table)
    if asked.csv:
        with asked.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def row(run: Path, model: ReidModule, rate: float) -> dict[str, Any]:
    """What the run found with its last exit; parameters without classifiers."""
    with (run / "results" / "exits.csv").open(newline="") as file:
        exits = {line["name"]: line for line in csv.DictReader(file)}
    last = exits[model.exit_names[-1]]
    summary = json.loads((run / "results" / "summary.json").read_text())
    kept = (p.numel() for name, p in model.named_parameters() if "classifier" not in name)
    values = (
        summary["name"],
        last["name"],
        round(100 * float(last["rank1"]), 1),
        round(100 * float(last["mAP"]), 1),
        int(last["mul_adds"]),
        sum(kept),
        round(rate),
        summary["commit"],
    )
    return dict(zip(COLUMNS, values, strict=True))


def embedding(run: Path, model: ReidModule) -> Work:
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    height, width = state["hyper_parameters"]["image"]
    model.to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, height, width).contiguous(memory_format=torch.channels_last)
    return partial(_embed, model, images)


@torch.inference_mode()
def _embed(model: ReidModule, images: torch.Tensor) -> int:
    model(images)
    return len(images)


if __name__ == "__main__":
    main()
