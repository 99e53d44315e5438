"""Train all methods of the suite on synthetic people, and draw their frontier.

python -m experiments.frontier_synthetic [--seeds 0 1 2] [--jobs 2]

All methods train on the same number of images. Their costs are measured one after the other, when
all trainings are done. The same command resumes after an interruption: finished runs are kept, runs
with a checkpoint are resumed. Failed runs are listed at the end; the others still run.
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
from reid_lab.cli.main import main as reid_lab
from reid_lab.config.paths import last_checkpoint


@dataclass(frozen=True)
class Method:
    """An experiment of the comparison.

    Attributes:
        experiment: the recipe, if the method is not called as it is; with `overrides`.
        batch: images per batch (P * K of PK batches).
        steps: config key of the number of batches; None if the recipe fixes it.
        teacher: the experiment whose network of the same seed is the teacher.
    """

    name: str
    batch: int = 32
    steps: str | None = "model.iterations"
    teacher: str | None = None
    experiment: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The overrides that give the method."""
        if self.experiment is None:
            return [f"+experiment={self.name}", *self.overrides]
        return [f"+experiment={self.experiment}", *self.overrides, f"name={self.name}"]


METHODS = (
    Method("demo", batch=64),
    Method("se_small_demo", 64, experiment="demo", overrides=("model=se_small",)),
    Method("mobilenet_synthetic"),
    Method("han_synthetic"),
    Method("jlml_synthetic"),
    Method("pla_synthetic", steps=None),  # its search sets the length
    Method(
        "lomo_synthetic", steps=None, experiment="lomo_market", overrides=("dataset=synthetic",)
    ),
    Method("distill_teacher_synthetic"),
    Method(
        "distill_synthetic",
        steps="model.student.iterations",
        teacher="distill_teacher_synthetic",
    ),
)
Runner = Callable[[list[str], Path], int]  # arguments and folder -> exit status
TERMINATED = 143  # exit status of a shell after SIGTERM
_running: set[subprocess.Popen[bytes]] = set()


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    runs, methods = args.out / "runs", [m for m in METHODS if m.name in args.only]
    failed = train(methods, args.seeds, runs, args.images, args.jobs, run)
    if not failed:
        failed = measure(methods, args.seeds, runs, run)
    folders = [runs / m.name for m in methods if any(map(finished, (runs / m.name).glob("*")))]
    status = reid_lab(["frontier", *map(str, folders), "--out", str(args.out)]) if folders else 1
    for folder in failed:
        print(f"failed: {folder}; see {folder / 'output.txt'}", file=sys.stderr)
    return 1 if failed else status


def train(
    methods: Sequence[Method],
    seeds: Sequence[int],
    runs: Path,
    images: int,
    jobs: int,
    run: Runner,
) -> list[Path]:
    """Train each method with each seed, `jobs` at a time; returns the folders of failed runs.

    A student waits for its teacher of the same seed.
    """
    ordered = sorted(
        methods, key=lambda m: m.teacher is not None
    )  # teachers first, so that no student blocks them
    done: dict[Path, Future[bool]] = {}
    pool = ThreadPoolExecutor(jobs)
    try:
        for method in ordered:
            for seed in seeds:
                folder = run_folder(runs, method.name, seed)
                teacher = run_folder(runs, method.teacher, seed) if method.teacher else None
                args = command(method, seed, folder, teacher, images)
                teacher_run = done.get(teacher) if teacher else None
                done[folder] = pool.submit(_train, args, folder, teacher_run, run)
        return [folder for folder, future in done.items() if not future.result()]
    except BaseException:  # interrupted: running trainings stop and keep their checkpoints
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_running):
            process.terminate()
        raise
    finally:
        pool.shutdown()


def command(
    method: Method, seed: int, folder: Path, teacher: Path | None, images: int
) -> list[str]:
    """Arguments of `python -m` that train one run."""
    args = [*method.words, f"seed={seed}", "threads=1", f"run_dir={folder}"]
    args += ["callbacks.progress=null", "+trainer.enable_progress_bar=false"]
    args += ["callbacks.cost=null"]  # measured later, when nothing else runs
    if teacher is not None:
        args.append(f"model.teacher={last_checkpoint(teacher)}")
    if method.steps:
        steps = max(images // method.batch, 1)
        args += [f"{method.steps}={steps}", f"trainer.val_check_interval={steps}"]
    return ["reid_lab", *args]


def measure(methods: Sequence[Method], seeds: Sequence[int], runs: Path, run: Runner) -> list[Path]:
    """Measure the cost of each run, seed by seed, so that other load affects all methods.

    Returns:
        The folders whose measurement failed.
    """
    failed = []
    for seed in seeds:
        for method in methods:
            folder = run_folder(runs, method.name, seed)
            table = folder / "results" / "cost.csv"
            if not table.is_file():
                print(f"measuring: {folder}", flush=True)
                if run(cost(method, folder, table), folder):
                    failed.append(folder)
    return failed


def cost(method: Method, folder: Path, table: Path) -> list[str]:
    overrides = [*method.words, "threads=1"]
    if method.teacher is not None:
        overrides.append(
            f"model.teacher={last_checkpoint(folder)}"
        )  # any checkpoint: the teacher is not measured
    options = [f"--checkpoint={last_checkpoint(folder)}", "--batch=16", "--seconds=5"]
    return ["reid_lab.cli", "cost", *overrides, *options, f"--csv={table}"]


def run_folder(runs: Path, name: str, seed: int) -> Path:
    return runs / name / f"seed{seed}"


def finished(folder: Path) -> bool:
    return (folder / "results" / "summary.json").is_file()


def run(args: list[str], folder: Path) -> int:
    """Run `python -m` with `args` in one thread; output goes to `output.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *args],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        _running.add(process)
        try:
            return process.wait()
        finally:
            _running.discard(process)


def _train(args: list[str], folder: Path, teacher_run: Future[bool] | None, run: Runner) -> bool:
    if finished(folder):
        print(f"finished before: {folder}", flush=True)
        return True
    if teacher_run is not None and not teacher_run.result():
        print(f"skipped: {folder}, its teacher failed", flush=True)
        return False
    resumed = last_checkpoint(folder).is_file()
    print(f"{'resumed' if resumed else 'started'}: {folder}", flush=True)
    status = run([*args, "ckpt_path=last"] if resumed else args, folder)
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
        help="training images of each method except PLA, whose search sets it; %(default)s",
    )
    parser.add_argument("--jobs", type=count, default=2, help="parallel trainings, %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/frontier_synthetic"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
