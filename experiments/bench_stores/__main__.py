"""A folder and Milvus Lite with the same random embeddings: answers, bytes, times; stores.csv.

OMP_NUM_THREADS=1 python -m experiments.bench_stores 10000 50000 ...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from reid_lab.files.gallery_files import Card
from reid_lab.files.tables import write_csv
from reid_lab.gallery.milvus import MilvusStore
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vector_index import bytes_of
from reid_lab.gallery.vectors import FolderStore, VectorStore, load_gallery
from reid_lab.gallery.writer import create
from reid_lab.results.provenance import commit, machine

DIM, QUERIES, TOP, ONE = 128, 100, 10, 5
TABLE = Path(__file__).with_name("stores.csv")


def main(*sizes: str) -> None:
    rows: list[dict[str, Any]] = []
    for size in map(int, sizes):
        rows += measured(size)
        write_csv(TABLE, rows)  # a larger size may not end


def measured(size: int) -> list[dict[str, Any]]:
    """A row of each store."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(size, DIM)).astype(np.float32)
    query = rng.normal(size=(QUERIES, DIM)).astype(np.float32)
    with TemporaryDirectory() as room:
        folder, file = Path(room) / "gallery", Path(room) / "people.db"
        start = time.perf_counter()
        with create(folder, Card("bench", DIM)) as writer:
            numbers = np.arange(size, dtype=np.int64)
            paths = [f"/images/{row:09}.jpg" for row in range(size)]
            writer.append_rows(embeddings, numbers // 10, numbers % 6, paths)
        built = time.perf_counter() - start
        gallery = SavedGallery.open(folder)
        _ = gallery.checked
        client = MilvusStore.connect(str(file))
        store = MilvusStore.create(client, "people", gallery.card)
        start = time.perf_counter()
        load_gallery(gallery, store, 1000)
        store.flush()
        loaded = time.perf_counter() - start
        stores: dict[str, tuple[VectorStore, float, Path]] = {
            "folder": (FolderStore(folder), built, folder),
            "milvus lite": (store, loaded, file),
        }
        found = {name: one.search(query, TOP) for name, (one, _, _) in stores.items()}
        wanted = found["folder"]
        rows = []
        for name, (one, seconds, path) in stores.items():
            same = sum(a == b for a, b in zip(found[name].paths, wanted.paths, strict=True))
            rows.append(
                {
                    "store": name,
                    "images": size,
                    "dim": DIM,
                    "load_s": seconds,
                    "bytes": bytes_of(path),
                    "ms_one": 1e3 * timed(one, [query[i : i + 1] for i in range(ONE)]),
                    "ms_batch": 1e3 * timed(one, [query]) / QUERIES,
                    "same_lists": same,
                    "queries": QUERIES,
                    "distance_gap": float(np.abs(found[name].distances - wanted.distances).max()),
                    "commit": commit(),
                    "machine": machine(),
                }
            )
        client.close()
    return rows


def timed(store: VectorStore, queries: list[np.ndarray]) -> float:
    """The median of the searches, in seconds."""
    taken = []
    for query in queries:
        start = time.perf_counter()
        store.search(query, TOP)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
