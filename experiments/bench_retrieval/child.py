"""One measurement in its own process, so that its peak memory can be read.

`__main__.py` runs
python -m experiments.bench_retrieval.child '{"task": "measure", "candidate": ..., ...}'
The last line of its output is JSON.
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


def main(task: dict[str, Any]) -> dict[str, Any]:
    if task["limit_gb"]:
        limit = int(task["limit_gb"] * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        return TASKS[task["task"]](task)
    except ImportError as error:
        return {"missing": f"{type(error).__name__}: {error}"}
    except (MemoryError, RuntimeError) as error:
        return {"error": explain(f"{type(error).__name__}: {error}")}


def features(task: dict[str, Any]) -> dict[str, Any]:
    """Write features to disk, so that no measured peak includes making them."""
    from experiments.bench_retrieval.people import synthetic_people
    from experiments.bench_retrieval.sizes import Size

    synthetic_people(Size(**task["size"]), task["seed"]).save(Path(task["people"]))
    return {}


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Import, read the features, warm up on a few, then time one pass."""
    from experiments.bench_retrieval.candidates import BY_NAME
    from experiments.bench_retrieval.people import People

    work = BY_NAME[task["candidate"]].prepare()
    few, people = (People.load(Path(task[which])) for which in ("few", "people"))
    work(few)  # starts threads and loads libraries
    before = peak_mb()
    start = time.perf_counter()
    scores = work(people)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before, **scores}


def facts(_: dict[str, Any]) -> dict[str, Any]:
    """Machine, commit and versions; and the memory that importing torch and our package takes."""
    import torch

    import reid_lab.retrieval  # noqa: F401
    from reid_lab.results.provenance import commit, machine

    peak = peak_mb()
    versions = {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}}
    threads = torch.get_num_threads()
    machine_facts = {
        "machine": machine(),
        "commit": commit(),
        "threads": threads,
        "versions": versions,
    }
    return {"peak_mb": peak, **machine_facts}


def peak_mb() -> float:
    """Peak resident memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def explain(message: str) -> str:
    """One short line: the last of an error message, or `out of memory`."""
    if any(word in message for word in OUT_OF_MEMORY):
        return "out of memory"
    return (message.strip().splitlines() or ["ended without output"])[-1][:200]


TASKS = {"facts": facts, "features": features, "measure": measure}

if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
