"""Indexes of a folder with clustered embeddings: time to build, bytes, memory, time, recall.

OMP_NUM_THREADS=1 python -m experiments.bench_stores.indexes FOLDER 100000 flat,sq8,ivf_pq,hnsw

FOLDER keeps the galleries (delete it afterwards). Rows of indexes.csv of the same images and index
are replaced. An index is built and searched in processes of its own; `flat` comes first, the others
are compared with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from experiments.bench_stores.sizes import DIM, QUERIES, STEP, TOP
from experiments.tables import read
from reid_lab.export.timed import peak_bytes
from reid_lab.files.tables import write_csv
from reid_lab.gallery.index import check_installed, expected_bytes, rows_visited
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vector_index import bytes_of
from reid_lab.gallery.writer import create, extend
from reid_lab.gallery_format.card import Card, IndexName
from reid_lab.results.provenance import commit, machine

TABLE = Path(__file__).with_name("indexes.csv")
IMAGES_OF_ONE, DIRECTIONS, SPREAD = 10, 32, 0.8  # of a person; of the people; within a person
ONE = 9  # queries that are searched one by one


def main(folder: str, images: str, indexes: str) -> None:
    size, room = int(images), Path(folder) / images
    for index in indexes.split(","):
        row: dict[str, Any] = {"images": size, "index": index, "dim": DIM, "queries": QUERIES}
        for step in ("build", "search"):
            row |= run(step, index, size, room)
        row |= {"commit": commit(), "machine": machine()}
        print(row, flush=True)
        same = (str(size), index)
        rows = [kept for kept in read(TABLE) if (kept["images"], kept["index"]) != same]
        write_csv(TABLE, [*rows, row])


def run(step: str, index: str, size: int, room: Path) -> dict[str, Any]:
    module = [sys.executable, "-m", "experiments.bench_stores.indexes"]
    words = [*module, step, index, str(size), str(room)]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return cast("dict[str, Any]", json.loads(output.splitlines()[-1]))


def build_index(index: IndexName, size: int, room: Path) -> dict[str, Any]:
    """The index of a folder, as `reid-lab gallery build --index` makes it; of `flat` the folder."""
    begin = time.perf_counter()
    imported = peak_bytes()
    if index == "flat":
        write_folder(size, room)
    else:
        gallery = SavedGallery.open(room)
        replace(gallery.card, index=index, trained=0, indexed=0).write(room)
        with extend(SavedGallery.open(room), gallery.card.fingerprint):
            begin = time.perf_counter()  # the embeddings were compared with their checksum
    return {
        "build_s": time.perf_counter() - begin,
        "build_memory": peak_bytes() - imported,
        "folder_bytes": bytes_of(room),
        "index_bytes": sum(file.stat().st_size for file in room.glob("index*.faiss")),
        "expected_bytes": expected_bytes(index, size, DIM),
        "rows_visited": float(rows_visited(index, size)),
    }


def write_folder(size: int, room: Path) -> None:
    with create(room, Card("bench", DIM)) as writer:
        for people, rows in embeddings(0, size):
            first = people[0] * IMAGES_OF_ONE
            paths = [f"/images/{first + row:09}.jpg" for row in range(len(rows))]
            pids = np.repeat(people, IMAGES_OF_ONE)
            writer.append_rows(rows, pids, np.arange(len(rows)) % 6, paths)


def embeddings(seed: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """People and IMAGES_OF_ONE rows of each: around a point of their own, in 32 directions.

    Another seed gives other images of the same people.
    """
    axes = np.random.default_rng(2).normal(size=(DIRECTIONS, DIM)) / DIRECTIONS**0.5
    people_of, noise_of = np.random.default_rng(3), np.random.default_rng(seed)
    for start in range(0, size, STEP):
        count = min(STEP, size - start) // IMAGES_OF_ONE
        people = start // IMAGES_OF_ONE + np.arange(count, dtype=np.int64)
        centres = people_of.normal(size=(count, DIRECTIONS)) @ axes
        rows = np.repeat(centres, IMAGES_OF_ONE, axis=0)
        yield people, (rows + SPREAD * noise_of.normal(size=rows.shape)).astype(np.float32)


def search_index(index: IndexName, size: int, room: Path) -> dict[str, Any]:
    """Single queries, then all together; recall against the lists of `flat`."""
    check_installed(index)
    imported = peak_bytes()
    query = next(embeddings(1, STEP))[1][::IMAGES_OF_ONE][:QUERIES]
    begin = time.perf_counter()
    gallery = SavedGallery.open(room)
    gallery.search(query[:1], TOP)  # reads what is read once
    first = time.perf_counter() - begin
    single = [timed(gallery, query[i : i + 1])[0] for i in range(ONE)]
    seconds, rows = timed(gallery, query)
    exact = room.with_suffix(".npy")
    if index == "flat":
        np.save(exact, rows)
    pairs = zip(rows, np.load(exact), strict=True)
    return {
        "first_s": first,
        "ms_one": 1e3 * float(np.median(single)),
        "ms_batch": 1e3 * seconds / QUERIES,
        "search_memory": peak_bytes() - imported,
        "recall10": float(np.mean([len({*ours} & {*wanted}) / TOP for ours, wanted in pairs])),
    }


def timed(gallery: SavedGallery, query: np.ndarray) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    _, rows = gallery.search(query, TOP)
    return time.perf_counter() - start, rows


if __name__ == "__main__":
    if sys.argv[1] in ("build", "search"):
        step = {"build": build_index, "search": search_index}[sys.argv[1]]
        found = step(cast(IndexName, sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        print(json.dumps(found))
    else:
        main(*sys.argv[1:])
