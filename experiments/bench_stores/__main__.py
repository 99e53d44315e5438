"""A folder and Milvus with the same random embeddings: answers, bytes, memory, times.

OMP_NUM_THREADS=1 python -m experiments.bench_stores 10000 50000 ...    # writes stores.csv
... python -m experiments.bench_stores --server http://127.0.0.1:19530 --pid PID --data FOLDER 10000

Each step (load, search) of each store runs in a process of its own. The second writes server.csv,
of a Milvus server on this machine instead of Milvus Lite. The server must have nothing else to do,
and no collection of the name in sizes.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from experiments.bench_stores.sizes import COLLECTION, DIM, QUERIES
from reid_lab.files.tables import write_csv
from reid_lab.gallery.milvus import MilvusStore
from reid_lab.gallery.vector_index import bytes_of
from reid_lab.results.provenance import commit, machine

HERE = Path(__file__).parent
SETTLES = 20  # seconds after a load in which a server puts its segments in order
SEGMENTS = ("insert_log", "delta_log", "stats_log", "index_files")  # folders of a server's data


def main(given: argparse.Namespace) -> None:
    table = HERE / ("server.csv" if given.server else "stores.csv")
    second = "milvus server" if given.server else "milvus lite"
    rows: list[dict[str, Any]] = []
    for size in given.sizes:
        with TemporaryDirectory() as room:
            for store in ("folder", second):
                address = given.server if store == "milvus server" else f"{room}/people.db"
                rows.append({"store": store, "dim": DIM, "queries": QUERIES})
                before = of_server(given) if store == "milvus server" else {}
                rows[-1] |= run("load", store, size, room, address)
                time.sleep(SETTLES if before else 0)
                rows[-1] |= run("search", store, size, room, address)
                after = of_server(given) if before else {}
                rows[-1] |= {name: after[name] - before[name] for name in before}
                rows[-1]["idle_memory"] = before.get("server_memory", "")
                if not before:
                    kept = {"folder": f"{room}/gallery"}.get(store, address)
                    rows[-1]["bytes"] = bytes_of(Path(kept))
                rows[-1] |= agreement(Path(room), store)
                rows[-1] |= {"commit": commit(), "machine": machine()}
                print(rows[-1], flush=True)
                names = dict.fromkeys(name for row in rows for name in row)
                write_csv(table, [{name: row.get(name, "") for name in names} for row in rows])
                if before:
                    drop(given.server)


def of_server(given: argparse.Namespace) -> dict[str, float]:
    """Bytes in memory of its process, of its segments and of its log, which it keeps for days."""
    status = Path(f"/proc/{given.pid}/status").read_text().splitlines()
    held = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    segments = sum(bytes_of(given.data / name) for name in SEGMENTS if (given.data / name).exists())
    return {
        "server_memory": 1024.0 * int(held),
        "bytes": segments,
        "log_bytes": bytes_of(given.data / "rocksmq"),
    }


def drop(uri: str) -> None:
    client = MilvusStore.connect(uri)
    client.drop_collection(COLLECTION)
    client.close()


def run(step: str, store: str, size: int, room: str, address: str) -> dict[str, Any]:
    child = [sys.executable, "-m", "experiments.bench_stores.child"]
    words = [*child, step, store, str(size), room, address]
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", type=int, nargs="+", help="images")
    parser.add_argument("--server", default="", help="address of a Milvus server of this machine")
    parser.add_argument("--pid", type=int, help="its process")
    parser.add_argument("--data", type=Path, help="its folder with insert_log and rocksmq")
    main(parser.parse_args())
