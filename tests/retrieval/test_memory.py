"""The bound holds: the most memory that a process of its own takes beside the embeddings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reid_lab.retrieval.memory import TILE_BYTES, TILES, BlockPlan, tile_rows

LIBRARIES = 6e6  # bytes that a BLAS, a pool of threads and the allocator keep
# large blocks are mapped one by one: what is freed leaves, and holes of the heap do not count
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
LISTS = 5000  # bytes per image of k-reciprocal encodings with the paper's options
QUERIES, IMAGES = 600, 6000

CHILD = """
import ctypes, sys
from pathlib import Path
import numpy as np, torch
from reid_lab.retrieval import Ids, KReciprocal, QueryExpansion, rank
from reid_lab.retrieval.open_set import nearest
from reid_lab.retrieval.space import Space
from reid_lab.retrieval.verification import roc

torch.set_num_threads(1)
WORK = {
    "rank": rank,
    "k_reciprocal": KReciprocal().rank,
    "query_expansion": QueryExpansion().rank,
    "roc": lambda q, g, *ids, memory: roc(Space.of(q, g), *ids, "same_camera", memory),
    "nearest": lambda q, g, *ids, memory: nearest(Space.of(q, g), *ids, "same_camera", memory),
}
queries, images = map(int, sys.argv[1:3])
rng = torch.Generator().manual_seed(0)


def side(count, people):
    pids = torch.randint(1, people + 1, (count,), generator=rng)
    camids = torch.randint(1, 7, (count,), generator=rng)
    rows = torch.randn(people + 1, 16, generator=torch.Generator().manual_seed(1))[pids]
    rows += torch.randn(count, 16, generator=rng)
    return rows, Ids(pids, camids, np.empty(count, dtype=object))


def kilobytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {x.split(":")[0]: int(x.split()[1]) for x in lines if x[:2] in ("Vm", "Rs")}


for case in sys.argv[3:]:
    name, people, memory = case.split(",")
    (q, q_ids), (g, g_ids) = side(queries, int(people)), side(images, int(people))
    few = torch.arange(40)
    WORK[name](q[few], g[few], q_ids.take(few), g_ids.take(few), memory=1e9)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = kilobytes()
    WORK[name](q, g, q_ids, g_ids, memory=float(memory))
    after = kilobytes()
    # pages of libraries that a busy system had dropped, and that were read again
    again = max(0, after["RssFile"] - before["RssFile"])
    print(case, 1024 * (after["VmHWM"] - before["VmRSS"] - again))
"""
CASES = {  # people, memory
    "rank": [(300, 1.5e7), (1, 1.5e7)],  # of one person every image is a match
    "k_reciprocal": [(300, 2.1e7)],
    "query_expansion": [(300, 1.6e7)],
    "roc": [(1, 1.5e7)],
    "nearest": [(300, 1.5e7)],
}


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux says the peak")
def test_the_peak_stays_below() -> None:
    cases = [f"{work},{people},{memory}" for work in CASES for people, memory in CASES[work]]
    asked = [sys.executable, "-c", CHILD, str(QUERIES), str(IMAGES), *cases]
    env = os.environ | MALLOC
    done = subprocess.run(asked, check=True, capture_output=True, text=True, env=env)
    peaks = dict(line.split() for line in done.stdout.splitlines())
    assert list(peaks) == cases
    for case, peak in peaks.items():
        work, _, memory = case.split(",")
        bound = float(memory) + LIBRARIES
        bound += LISTS * (QUERIES + IMAGES) if work == "k_reciprocal" else 0
        bound += 50 << 20 if work == "roc" else 0  # its counts
        assert int(peak) <= bound, case


@pytest.mark.parametrize("gallery", [1, 900, 16_000, 32_768, 32_769, 100_000, 10**6, 10**8])
def test_a_product_is_as_large_whatever_the_memory(gallery: int) -> None:
    tile = tile_rows(gallery)
    assert tile == TILES[-1] or tile * gallery * 4 <= TILE_BYTES
    for memory in (tile * gallery * 4 + 100, 1e13):
        plan = BlockPlan.of(gallery, memory, work=100)
        assert plan.tile == tile and plan.rows % tile == 0
        assert plan.spare == memory - plan.rows * gallery * 4 >= 100
