"""Run studies for a number of minutes: resume, stop in time, and record each attempt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from experiments.full.studies import StudyRun, command, missing_input
from reid_lab.config.paths import last_checkpoint
from reid_lab.interrupt import TIME_IS_UP
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


def run_slice(
    runs: Sequence[StudyRun], options: Options, minutes: float, jobs: int = 1
) -> list[StudyRun]:
    """Run the unfinished runs in their order, `jobs` at a time; returns those that failed."""
    queue = Queue(runs, options, time.monotonic() + 60 * minutes)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            workers = [pool.submit(work, queue, options, jobs) for _ in range(jobs)]
            failed = [run for worker in workers for run in worker.result()]
        except BaseException:
            queue.stop()
            raise
    for run in queue.waiting:
        if missing := missing_input(run, options.runs, options.weights):
            print(f"{run.name}: waits for {missing}", flush=True)
    return failed


class Queue:
    """The unfinished runs, handed out in their order.

    A run whose teacher is being trained waits for it.
    """

    def __init__(self, runs: Sequence[StudyRun], options: Options, ends: float) -> None:
        self.waiting = [run for run in runs if run.state != "done"]
        self.options, self.ends = options, ends
        self.running: dict[str, subprocess.Popen[bytes] | None] = {}
        self.changed = threading.Condition()
        self.stopped = False

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def take(self) -> StudyRun | None:
        """The next run that can start; None if there is none, or too little time is left."""
        with self.changed:
            while not self.stopped and self.left >= SHORTEST:
                for run in self.waiting:
                    if not missing_input(run, self.options.runs, self.options.weights):
                        self.waiting.remove(run)
                        self.running[run.name] = None
                        return run
                if not self.waiting or not self.running:
                    break
                self.changed.wait(self.left - SHORTEST)
            return None

    def started(self, run: StudyRun, process: subprocess.Popen[bytes]) -> None:
        with self.changed:
            self.running[run.name] = process
            if self.stopped:
                process.terminate()

    def ended(self, run: StudyRun) -> None:
        with self.changed:
            self.running.pop(run.name)
            self.changed.notify_all()

    def stop(self) -> None:
        """Interrupt the runs, and wait until each has saved a checkpoint and was recorded."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
            for process in self.running.values():
                if process is not None:
                    process.terminate()
            # the pool does not know a thread whose start was interrupted
            self.changed.wait_for(lambda: not self.running)


def work(queue: Queue, options: Options, jobs: int) -> list[StudyRun]:
    """Run what the queue hands out; returns the runs that failed."""
    failed = []
    while run := queue.take():
        try:
            status = attempt(run, options, queue, jobs)
        finally:
            queue.ended(run)
        if status not in (0, TIME_IS_UP, 128 + signal.SIGTERM):
            failed.append(run)
    return failed


def attempt(run: StudyRun, options: Options, queue: Queue, jobs: int) -> int:
    """Start or resume a run, record the attempt, and return its exit status."""
    started, step = time.monotonic(), step_of(run.folder)
    print(f"{run.name}: {f'resumes at step {step:,}' if step else 'starts'}", flush=True)
    minutes = max(queue.left - RESERVE, 1) / 60
    args = command(
        run, options.runs, options.weights, options.overrides, minutes, torch.cuda.is_available()
    )
    if jobs > 1:  # each has its share of the cores
        args.append(f"threads={max(1, (os.cpu_count() or 1) // jobs)}")
    status = execute(args, run, queue)
    row = {
        "status": status,
        "from_step": step,
        "steps": step_of(run.folder),
        "seconds": round(time.monotonic() - started, 1),
        "jobs": jobs,
        "machine": machine(),
        "commit": commit(),
        "ended": f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}",
    }
    run.record(row)
    print(f"{run.name}: {run.state}, at step {row['steps']:,} after {row['seconds']} s", flush=True)
    if status not in (0, TIME_IS_UP):
        print(f"{run.name}: status {status}:\n{tail(run.folder / 'output.txt')}", flush=True)
    return status


def execute(args: Sequence[str], run: StudyRun, queue: Queue) -> int:
    """Run `python -m` with `args`, terminated when time is over; output goes to output.txt."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "output.txt").open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *args], stdout=output, stderr=subprocess.STDOUT
        )
        queue.started(run, process)
        try:
            return process.wait(queue.left - GATHER)
        except subprocess.TimeoutExpired:
            process.terminate()
            return process.wait()


def step_of(folder: Path) -> int:
    """The step of a run's last checkpoint; 0 without one."""
    path = last_checkpoint(folder)
    if not path.is_file():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])


def tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-LINES:])
