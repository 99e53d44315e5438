"""Runs what is next for so many minutes: resumes, stops in time, and records each attempt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from experiments.full.studies import Run, command, waits_for
from reid_lab.callbacks.deadline import TIME_IS_UP
from reid_lab.config.paths import last_checkpoint
from reid_lab.results.provenance import commit, machine

SHORTEST = 60.0  # seconds that are left: with less, nothing more is begun
RESERVE = 45.0  # seconds at the end: a process's start before its clock, its last checkpoint
GATHER = 10.0  # seconds until all ends: what still runs is interrupted, and the tables written
LINES = 30  # of a failed run's output, shown


@dataclass(frozen=True)
class Options:
    """Where the runs are, and what they are given."""

    runs: Path
    weights: Mapping[str, Path]
    overrides: Sequence[str]


def go_on(found: Sequence[Run], where: Options, minutes: float) -> list[Run]:
    """Run one after the other what is not done, in their order; the runs that failed."""
    ends, failed = time.monotonic() + 60 * minutes, []
    for run in found:
        left = ends - time.monotonic()
        if left < SHORTEST:
            break
        if run.state == "done":
            continue
        if lacking := waits_for(run, where.runs, where.weights):
            print(f"{run.name}: waits for {lacking}", flush=True)
            continue
        status = attempt(run, where, left)
        if status not in (0, TIME_IS_UP, 128 + signal.SIGTERM):
            failed.append(run)
    return failed


def attempt(run: Run, where: Options, seconds: float) -> int:
    """Begin a run or resume it, record what became of it, and return its exit status."""
    begun, step = time.monotonic(), step_of(run.folder)
    print(f"{run.name}: {f'from step {step:,}' if step else 'begins'}", flush=True)
    minutes = max(seconds - RESERVE, 1) / 60
    words = command(
        run, where.runs, where.weights, where.overrides, minutes, torch.cuda.is_available()
    )
    status = execute(words, run.folder, seconds - GATHER)
    row = {
        "status": status,
        "from_step": step,
        "steps": step_of(run.folder),
        "seconds": round(time.monotonic() - begun, 1),
        "machine": machine(),
        "commit": commit(),
        "ended": f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}",
    }
    run.record(row)
    print(f"{run.name}: {run.state}, at step {row['steps']:,} after {row['seconds']} s", flush=True)
    if status not in (0, TIME_IS_UP):
        print(f"{run.name}: status {status}:\n{tail(run.folder / 'output.txt')}", flush=True)
    return status


def execute(words: Sequence[str], folder: Path, seconds: float) -> int:
    """`python -m` of the words, interrupted after so many seconds; its output in output.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=output, stderr=subprocess.STDOUT, env=os.environ
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def step_of(folder: Path) -> int:
    """The step of a run's last checkpoint; 0 without one."""
    path = last_checkpoint(folder)
    if not path.is_file():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-LINES:])
