"""One step of one store in its own process, so that its peak memory can be read.

python -m experiments.bench_stores.child STEP STORE IMAGES FOLDER ADDRESS

The last line of its output is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench_stores.sizes import BATCH, COLLECTION, DIM, ONE, QUERIES, STEP, TOP
from reid_lab.export.timed import peak_bytes
from reid_lab.gallery.milvus import MilvusStore
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vectors import FolderStore, VectorStore, load_gallery
from reid_lab.gallery.writer import create
from reid_lab.gallery_format.card import Card
from reid_lab.optional import load as load_package


def main(step: str, store: str, images: str, folder: str, address: str) -> dict[str, Any]:
    if store != "folder":
        load_package("pymilvus", "a store in Milvus")
    if store == "milvus lite":
        load_package("milvus_lite", "a Milvus file")
    imported, room = peak_bytes(), Path(folder)
    if store == "folder":
        found = load_folder(room, int(images)) if step == "load" else search_folder(room)
    else:
        found = (
            load_milvus(room, address) if step == "load" else search_milvus(room, store, address)
        )
    return {**found, f"{step}_memory": peak_bytes() - imported}


def load_folder(room: Path, images: int) -> dict[str, Any]:
    """Random embeddings, made `STEP` at a time: making them is not in the time."""
    rng, seconds = np.random.default_rng(0), 0.0
    with create(room / "gallery", Card("bench", DIM)) as writer:
        for start in range(0, images, STEP):
            numbers = np.arange(start, min(start + STEP, images), dtype=np.int64)
            rows = rng.normal(size=(len(numbers), DIM)).astype(np.float32)
            paths = [f"/images/{row:09}.jpg" for row in numbers]
            begin = time.perf_counter()
            writer.append_rows(rows, numbers // 10, numbers % 6, paths)
            seconds += time.perf_counter() - begin
        begin = time.perf_counter()
    return {"load_s": seconds + time.perf_counter() - begin}


def load_milvus(room: Path, address: str) -> dict[str, Any]:
    """As `reid-lab gallery load` does; the first and the last tenth are timed apart."""
    gallery = SavedGallery.open(room / "gallery")
    client = MilvusStore.connect(address, create=True)
    store = MilvusStore.create(client, COLLECTION, gallery.card)
    start = time.perf_counter()
    times, done = [start], [0]

    def progress(count: int) -> None:
        times.append(time.perf_counter())
        done.append(done[-1] + count)
        if done[-1] % STEP == 0:
            print(f"{done[-1]:,} images in {times[-1] - start:.0f} s", file=sys.stderr, flush=True)

    load_gallery(gallery, store, BATCH, progress)
    store.flush()
    seconds = time.perf_counter() - start
    client.close()
    tenth = max(1, (len(times) - 1) // 10)
    rates = {
        "first_tenth_per_s": done[tenth] / (times[tenth] - start),
        "last_tenth_per_s": (done[-1] - done[-1 - tenth]) / (times[-1] - times[-1 - tenth]),
    }
    return {"load_s": seconds, **rates}


def search_folder(room: Path) -> dict[str, Any]:
    return searched(room, "folder", lambda: FolderStore(room / "gallery"))


def search_milvus(room: Path, store: str, address: str) -> dict[str, Any]:
    client = MilvusStore.connect(address)
    found = searched(room, store, lambda: MilvusStore.open(client, COLLECTION))
    if store == "milvus server":
        found["ms_strong"] = ms_strong(client)
    client.close()
    return found


def ms_strong(client: Any) -> float:
    """One query that has to see all that was written, as the first one of a `MilvusStore`."""
    query = list(queries()[:1])
    times = []
    for _ in range(ONE):
        begin = time.perf_counter()
        client.search(COLLECTION, query, limit=TOP, consistency_level="Strong")
        times.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(times))


def queries() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(QUERIES, DIM)).astype(np.float32)


def searched(room: Path, name: str, opened: Callable[[], VectorStore]) -> dict[str, Any]:
    """Single queries, then all of them together; the lists are saved beside the store."""
    query = queries()
    begin = time.perf_counter()
    store = opened()
    store.search(query[:1], TOP)  # reads what is read once
    first = time.perf_counter() - begin
    single = [timed(store, query[i : i + 1])[0] for i in range(ONE)]
    seconds, found = timed(store, query)
    np.savez(room / f"{name}.npz", distances=found.distances, paths=np.array(found.paths))
    return {
        "images": len(store),
        "first_s": first,
        "ms_one": 1e3 * float(np.median(single)),
        "ms_batch": 1e3 * seconds / QUERIES,
    }


def timed(store: VectorStore, query: np.ndarray) -> tuple[float, Any]:
    start = time.perf_counter()
    found = store.search(query, TOP)
    return time.perf_counter() - start, found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
