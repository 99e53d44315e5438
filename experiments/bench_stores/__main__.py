"""A folder and Milvus Lite with the same random embeddings: answers, bytes, memory, times.

OMP_NUM_THREADS=1 python -m experiments.bench_stores 10000 50000 ...    # writes stores.csv

Each step (load, search) of each store runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.bench_stores.sizes import DIM, QUERIES
from reid_lab.files.tables import write_csv
from reid_lab.gallery.vector_index import bytes_of
from reid_lab.results.provenance import commit, machine

TABLE = Path(__file__).with_name("stores.csv")
FILES = {"folder": "gallery", "milvus lite": "people.db"}


def main(*sizes: str) -> None:
    rows: list[dict[str, Any]] = []
    for size in map(int, sizes):
        with TemporaryDirectory() as room:
            for store, file in FILES.items():
                rows.append({"store": store, "dim": DIM, "queries": QUERIES})
                for step in ("load", "search"):
                    rows[-1] |= run(step, store, size, room)
                rows[-1] |= {"bytes": bytes_of(Path(room) / file), **agreement(Path(room), store)}
                rows[-1] |= {"commit": commit(), "machine": machine()}
                print(rows[-1], flush=True)
                names = dict.fromkeys(name for row in rows for name in row)
                write_csv(TABLE, [{name: row.get(name, "") for name in names} for row in rows])


def run(step: str, store: str, size: int, room: str) -> dict[str, Any]:
    words = [sys.executable, "-m", "experiments.bench_stores.child", step, store, str(size), room]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def agreement(room: Path, store: str) -> dict[str, Any]:
    """How many queries have the folder's list: the same images in the same order."""
    wanted, found = (np.load(room / f"{name}.npz") for name in ("folder", store))
    same = (found["paths"] == wanted["paths"]).all(1)
    gap = np.abs(found["distances"] - wanted["distances"]).max()
    return {"same_lists": int(same.sum()), "distance_gap": float(gap)}


if __name__ == "__main__":
    main(*sys.argv[1:])
