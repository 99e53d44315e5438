"""Copy what a finished run measured into a study's folder, with where it comes from.

python -m experiments.collect RUN STUDY      writes STUDY/results.csv and, if any, STUDY/stream.csv
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from reid_lab.results import write_csv

PROVENANCE = ("seed", "commit", "machine", "elapsed_s")


def main(run: str, study: str) -> None:
    results = Path(run) / "results"
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    where = {"run": summary["name"], **{key: summary[key] for key in PROVENANCE}}
    where["torch"] = summary["versions"]["torch"]
    for source, target in (("exits", "results"), ("stream", "stream")):
        if not (results / f"{source}.csv").is_file():
            continue  # one exit: there is no stream
        with (results / f"{source}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if source == "exits":
            rows = [{**row, **where} for row in rows]
        write_csv(Path(study) / f"{target}.csv", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
