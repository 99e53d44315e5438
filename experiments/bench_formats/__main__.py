"""Write the costs and accuracies of exports in all formats, from their tables, to formats.csv.

python -m experiments.bench_formats LABEL=EXPORTED ...
python -m experiments.bench_formats untrained FILE.ckpt OVERRIDES ...  # random weights
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from reid_lab.config.build import build_model
from reid_lab.config.overrides import composed
from reid_lab.export.formats import SCORES
from reid_lab.files.tables import write_csv
from reid_lab.results import results_of
from reid_lab.results.provenance import commit, machine
from reid_lab.results.rows.accuracy import EXITS
from reid_lab.results.rows.cost import COST
from reid_lab.runtime import Manifest

COLUMNS = (
    *("latency_p50_ms", "latency_p95_ms", "images_per_second", "file_bytes", "process_bytes"),
    *("weight_bytes", "mul_adds", "repeats", "batch", "threads", "device"),
)
FOLDERS = {"onnx": "", **{name: name for name in ("openvino", "torchscript", "tflite")}}


def main(*words: str) -> None:
    if words[0] == "untrained":
        return untrained(Path(words[1]), *words[2:])
    rows = [row for word in words for row in rows_of(*word.split("=", 1))]
    return write_csv(Path(__file__).with_name("formats.csv"), rows)


def rows_of(label: str, exported: str) -> Iterator[dict[str, Any]]:
    """A row for each format and exit; `times_pytorch` is images/s over PyTorch's."""
    folder = Path(exported)
    costs = COST.read(folder / COST.file)
    plain = {row.exit: row for row in costs if row.format == "pytorch"}
    for row in costs:
        name = row.format if row.precision == "float32" else f"{row.format} {row.precision}"
        room = results_of(folder / SCORES / name.replace(" ", "-"))
        exits = EXITS.read(room / EXITS.file) if room.is_dir() else []
        found = next(({"rank1": e.rank1, "mAP": e.mAP} for e in exits if e.name == row.exit), {})
        gap = {}
        if row.format != "pytorch":
            at = folder / FOLDERS[row.format] / ("int8" if row.precision == "int8" else "")
            gap = Manifest.read(at).measured["difference"][row.exit]
        yield {
            "network": label,
            "format": name,
            "exit": row.exit,
            "difference": gap.get("relative", ""),
            **{"rank1": found.get("rank1", ""), "mAP": found.get("mAP", "")},
            **{column: getattr(row, column) for column in COLUMNS},
            "times_pytorch": row.images_per_second / plain[row.exit].images_per_second,
            "times_pytorch_one": plain[row.exit].latency_p50_ms / row.latency_p50_ms,
            "commit": commit(),
            "machine": machine(),
        }


def untrained(path: Path, *overrides: str) -> None:
    """A checkpoint of random weights, as a run writes it: enough for times, not for accuracies."""
    torch.manual_seed(0)
    cfg = composed([*overrides, "name=untrained", "run_dir=.", "dataset.root=."])
    model = build_model(cfg, 10).eval()
    state = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(state)
    torch.save(state, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
