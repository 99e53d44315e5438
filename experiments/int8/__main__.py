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
    measured, int8 = (
        json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["measured"]
        for folder in (Path(exported), Path(exported) / "int8")
    )
    summary = Summary.read(results_of(Path(run)))
    ratios = {key: int8[key] for key in ("size_ratio", "images_per_second_ratio")}
    ratios["calibration_images"] = int8["calibration_images"]
    provenance = {key: getattr(summary, key) for key in PROVENANCE if key != "elapsed_s"}
    rows = [
        {
            "exit": exit,
            **{f"{m}_float32": measured["accuracies"][exit][m] for m in METRICS},
            **{f"{m}_int8": found[m] for m in METRICS},
            **ratios,
            **provenance,
        }
        for exit, found in int8["accuracies"].items()
    ]
    write_csv(Path(__file__).with_name(table), rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
