"""One measurement in a process of its own: its peak memory is nobody else's.

python -m experiments.bench_retrieval.child '{"task": "measure", "candidate": ..., ...}'
prints one line of JSON last. Not for people: `__main__.py` starts it.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "faiss-cpu", "scipy")
OUT_OF_MEMORY = ("allocate", "bad_alloc", "MemoryError", "out of memory")


def main(order: dict[str, Any]) -> dict[str, Any]:
    if order["limit_gb"]:
        limit = int(order["limit_gb"] * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        return TASKS[order["task"]](order)
    except ImportError as error:
        return {"missing": f"{type(error).__name__}: {error}"}
    except (MemoryError, RuntimeError) as error:
        return {"error": explain(f"{type(error).__name__}: {error}")}


def invent(order: dict[str, Any]) -> dict[str, Any]:
    """Features on disk, so that making them is no part of anybody's peak."""
    from experiments.bench_retrieval.people import invent as people
    from experiments.bench_retrieval.sizes import Size

    people(Size(**order["size"]), order["seed"]).save(Path(order["people"]))
    return {}


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Import, read the people, warm up on a few, then take the time."""
    from experiments.bench_retrieval.candidates import CANDIDATES
    from experiments.bench_retrieval.people import People

    work = CANDIDATES[order["candidate"]].prepare()
    few, people = (People.load(Path(order[which])) for which in ("few", "people"))
    work(few)  # threads and libraries are there
    before = peak_mb()
    start = time.perf_counter()
    scores = work(people)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before, **scores}


def facts(_: dict[str, Any]) -> dict[str, Any]:
    """What the numbers need beside them; and what importing everything of ours takes."""
    import torch

    import reid_lab.retrieval  # noqa: F401
    from reid_lab.results.provenance import commit, machine

    peak = peak_mb()
    versions = {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}}
    threads = torch.get_num_threads()
    where = {"machine": machine(), "commit": commit(), "threads": threads, "versions": versions}
    return {"peak_mb": peak, **where}


def peak_mb() -> float:
    """The most memory this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def explain(message: str) -> str:
    """One short line, whoever allocates."""
    if any(word in message for word in OUT_OF_MEMORY):
        return "out of memory"
    return (message.strip().splitlines() or ["ended without a word"])[-1][:200]


TASKS = {"facts": facts, "invent": invent, "measure": measure}

if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
