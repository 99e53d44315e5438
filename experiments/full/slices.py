"""Run studies for a number of minutes: resume, stop in time, and record each attempt."""

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

from experiments.full.studies import StudyRun, command, missing_input
from reid_lab.callbacks.checkpoints import TIME_IS_UP
from reid_lab.config.paths import last_checkpoint
from reid_lab.results.provenance import commit, machine

SHORTEST = 60.0  # seconds: no run starts with less time left
RESERVE = 45.0  # seconds kept for the start of a process and its last checkpoint
GATHER = 10.0  # seconds kept for the tables: a run that is still training is interrupted
LINES = 30  # lines of a failed run's output to print


@dataclass(frozen=True)
class Options:
    """Folder of the runs, their pre-trained weights and config overrides."""

    runs: Path
    weights: Mapping[str, Path]
    overrides: Sequence[str]


def run_slice(runs: Sequence[StudyRun], options: Options, minutes: float) -> list[StudyRun]:
    """Run the unfinished runs one after the other, in their order; returns those that failed."""
    ends, failed = time.monotonic() + 60 * minutes, []
    for run in runs:
        left = ends - time.monotonic()
        if left < SHORTEST:
            break
        if run.state == "done":
            continue
        if missing := missing_input(run, options.runs, options.weights):
            print(f"{run.name}: waits for {missing}", flush=True)
            continue
        status = attempt(run, options, left)
        if status not in (0, TIME_IS_UP, 128 + signal.SIGTERM):
            failed.append(run)
    return failed


def attempt(run: StudyRun, options: Options, seconds: float) -> int:
    """Start or resume a run, record the attempt, and return its exit status."""
    started, step = time.monotonic(), step_of(run.folder)
    print(f"{run.name}: {f'resumes at step {step:,}' if step else 'starts'}", flush=True)
    minutes = max(seconds - RESERVE, 1) / 60
    args = command(
        run, options.runs, options.weights, options.overrides, minutes, torch.cuda.is_available()
    )
    status = execute(args, run.folder, seconds - GATHER)
    row = {
        "status": status,
        "from_step": step,
        "steps": step_of(run.folder),
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine(),
        "commit": commit(),
        "ended": f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}",
    }
    run.record(row)
    print(f"{run.name}: {run.state}, at step {row['steps']:,} after {row['seconds']} s", flush=True)
    if status not in (0, TIME_IS_UP):
        print(f"{run.name}: status {status}:\n{tail(run.folder / 'output.txt')}", flush=True)
    return status


def execute(args: Sequence[str], folder: Path, seconds: float) -> int:
    """Run `python -m` with `args`, terminated after `seconds`; output goes to output.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *args], stdout=output, stderr=subprocess.STDOUT, env=os.environ
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
