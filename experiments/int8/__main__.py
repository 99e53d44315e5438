"""Write what INT8 loses, from the manifest of an export, to results.csv or another table.

python -m experiments.int8 EXPORTED RUN [TABLE]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from experiments.collect import PROVENANCE
from reid_lab.files.tables import write_csv
from reid_lab.results import Summary, results_of

METRICS = ("rank1", "mAP")


def main(exported: str, run: str, table: str = "results.csv") -> None:
    measured = json.loads((Path(exported) / "manifest.json").read_text(encoding="utf-8"))[
        "measured"
    ]
    summary, int8 = Summary.read(results_of(Path(run))), measured["int8"]
    ratios = {key: int8[key] for key in ("size_ratio", "images_per_second_ratio")}
    ratios["calibration_images"] = int8["calibration_images"]
    provenance = {key: getattr(summary, key) for key in PROVENANCE if key != "elapsed_s"}
    rows = [
        {
            "exit": exit,
            **{f"{m}_float32": measured["onnxruntime"][exit][m] for m in METRICS},
            **{f"{m}_int8": found[m] for m in METRICS},
            **ratios,
            **provenance,
        }
        for exit, found in int8["accuracies"].items()
    ]
    write_csv(Path(__file__).with_name(table), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
