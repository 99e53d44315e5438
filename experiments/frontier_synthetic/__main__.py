"""All methods of the suite on synthetic people, a run a seed, then the frontier of them all.

python -m experiments.frontier_synthetic [--seeds 0 1 2] [--jobs 2]

All see equally many training images. What they cost is measured when all are trained, one
after the other. The same command goes on where it was interrupted: what is finished stays, what
has a checkpoint is resumed. A method that fails is told at the end and leaves the others alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reid_lab.cli.command import count
from reid_lab.config.paths import last_checkpoint
from reid_lab.frontier.__main__ import main as frontier


@dataclass(frozen=True)
class Method:
    """An experiment, its images a batch, the key that says how long, if one does, and its teacher.

    Attributes:
        batch: images, P * K where there are PK batches.
    """

    name: str
    batch: int = 32
    steps: str | None = "model.iterations"
    teacher: str | None = None


METHODS = (
    Method("demo", batch=64),
    Method("se_small_demo", batch=64),
    Method("mobilenet_synthetic"),
    Method("han_synthetic"),
    Method("jlml_synthetic"),
    Method("pla_synthetic", steps=None),  # as long as its search
    Method("lomo_synthetic", steps=None),
    Method("distill_teacher_synthetic"),
    Method(
        "distill_synthetic",
        steps="model.student.iterations",
        teacher="distill_teacher_synthetic",
    ),
)
Run = Callable[[list[str], Path], int]
TERMINATED = 143  # what shells call the end by SIGTERM
_running: set[subprocess.Popen[bytes]] = set()


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    runs, methods = args.out / "runs", [m for m in METHODS if m.name in args.only]
    failed = train(methods, args.seeds, runs, args.images, args.jobs, run)
    if not failed:
        failed = measure(methods, args.seeds, runs, run)
    found = [runs / m.name for m in methods if any(map(finished, (runs / m.name).glob("*")))]
    status = frontier([*map(str, found), "--out", str(args.out)]) if found else 1
    for folder in failed:
        print(f"failed: {folder}; see {folder / 'output.txt'}", file=sys.stderr)
    return 1 if failed else status


def train(
    methods: Sequence[Method],
    seeds: Sequence[int],
    runs: Path,
    images: int,
    jobs: int,
    run: Run,
) -> list[Path]:
    """Train each method with each seed, `jobs` at a time; the folders of those that failed.

    A pupil waits for its teacher of the same seed.
    """
    ordered = sorted(methods, key=lambda m: m.teacher is not None)  # so that waiting ends
    done: dict[Path, Future[bool]] = {}
    pool = ThreadPoolExecutor(jobs)
    try:
        for method in ordered:
            for seed in seeds:
                folder = place(runs, method.name, seed)
                teacher = place(runs, method.teacher, seed) if method.teacher else None
                words = command(method, seed, folder, teacher, images)
                before = done.get(teacher) if teacher else None
                done[folder] = pool.submit(_train, words, folder, before, run)
        return [folder for folder, future in done.items() if not future.result()]
    except BaseException:  # interrupted: what runs stops, and keeps its checkpoint
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_running):
            process.terminate()
        raise
    finally:
        pool.shutdown()


def command(
    method: Method, seed: int, folder: Path, teacher: Path | None, images: int
) -> list[str]:
    words = [f"+experiment={method.name}", f"seed={seed}", "threads=1", f"run_dir={folder}"]
    words += ["callbacks.progress=null", "+trainer.enable_progress_bar=false"]
    words += ["callbacks.cost=null"]  # measured when nothing else runs
    if teacher is not None:
        words.append(f"model.teacher={last_checkpoint(teacher)}")
    if method.steps:
        steps = max(images // method.batch, 1)
        words += [f"{method.steps}={steps}", f"trainer.val_check_interval={steps}"]
    return ["reid_lab", *words]


def measure(methods: Sequence[Method], seeds: Sequence[int], runs: Path, run: Run) -> list[Path]:
    """What each costs, in rounds, so that a slow minute does not meet one method alone."""
    failed = []
    for seed in seeds:
        for method in methods:
            folder = place(runs, method.name, seed)
            table = folder / "results" / "cost.csv"
            if not table.is_file():
                print(f"measuring: {folder}", flush=True)
                if run(cost(method, folder, table), folder):
                    failed.append(folder)
    return failed


def cost(method: Method, folder: Path, table: Path) -> list[str]:
    overrides = [f"+experiment={method.name}", "threads=1"]
    if method.teacher is not None:
        overrides.append(f"model.teacher={last_checkpoint(folder)}")  # any: it is not measured
    options = [f"--checkpoint={last_checkpoint(folder)}", "--batch=16", "--seconds=5"]
    return ["reid_lab.cost", *overrides, *options, f"--csv={table}"]


def place(runs: Path, name: str, seed: int) -> Path:
    return runs / name / f"seed{seed}"


def finished(folder: Path) -> bool:
    return (folder / "results" / "summary.json").is_file()


def run(words: list[str], folder: Path) -> int:
    """`python -m` of the words, one thread, what it says in `output.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        _running.add(process)
        try:
            return process.wait()
        finally:
            _running.discard(process)


def _train(words: list[str], folder: Path, before: Future[bool] | None, run: Run) -> bool:
    if finished(folder):
        print(f"finished before: {folder}", flush=True)
        return True
    if before is not None and not before.result():
        print(f"left out: {folder}, its teacher failed", flush=True)
        return False
    resumed = last_checkpoint(folder).is_file()
    print(f"{'resumed' if resumed else 'started'}: {folder}", flush=True)
    status = run([*words, "ckpt_path=last"] if resumed else words, folder)
    print(f"{'done' if status == 0 else f'status {status}'}: {folder}", flush=True)
    return status == 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m experiments.frontier_synthetic")
    names = [method.name for method in METHODS]
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="METHOD")
    parser.add_argument(
        "--images",
        type=count,
        default=16000,
        help="training images of each, but of PLA, whose search says it; %(default)s",
    )
    parser.add_argument("--jobs", type=count, default=2, help="trainings at a time, %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/frontier_synthetic"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
