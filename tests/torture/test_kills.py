"""Commands that are killed and started again: what they leave equals what an undisturbed one does.

Bit for bit: weights, optimiser, tables, galleries, caches, pictures. The moments are random, by
the case's number; a command that has ended before its moment is started anew, to die earlier.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.launcher import Running
from tests.torture.bench import (
    TIME_LIMIT,
    TRACEBACK,
    WORK,
    Bench,
    Stage,
    outside,
    places,
    start,
    training,
)

pytestmark = pytest.mark.system

Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A command that writes files, and how it is started again after a kill."""

    arguments: tuple[str, ...]
    result: Callable[[Path], Result]  # name -> what must be the same
    module: str = "reid_lab"
    resumed: str = ""  # one more argument, once there is a checkpoint
    prepare: Callable[[Stage, Path], None] | None = None


def run_result(work: Path) -> Result:
    """What a run leaves, but for times and places."""
    found: Result = {f"results/{p.name}": p.read_text() for p in work.glob("run/results/[!.]*.csv")}
    for path in work.glob("run/checkpoints/[!.]*.ckpt"):
        state = torch.load(path, weights_only=True)
        kept = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
        found |= {f"{path.name} {key}": told(state[key]) for key in kept}
    summary = json.loads((work / "run" / "results" / "summary.json").read_text())
    found |= {f"summary {key}": summary[key] for key in ("metrics", "mul_adds", "dataset")}
    # the last value of each metric at each step, over all attempts
    for path in sorted(work.glob("run/logs/version_*/metrics.csv"), key=version):
        for row in csv.DictReader(path.read_text("utf-8").splitlines()):
            found |= {f"log {row['step']} {k}": v for k, v in row.items() if v and k != "epoch"}
    return found


def unlike(wanted: Result, found: Result) -> list[str]:
    """What differs, but for a validation at the last step, if nobody logged it.

    A run that is killed between its last checkpoint and that validation has no training left, and
    goes on to the test.
    """
    keys = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    validated = [int(key.split()[1]) for key in wanted if " val/" in key]
    last = f"log {max(validated, default='')} val/"
    return [key for key in keys if not key.startswith(last) or key in found]


def version(path: Path) -> int:
    return int(path.parent.name.partition("_")[2])


def told(value: Any) -> Any:
    """Nested containers with a digest in place of each tensor."""
    if isinstance(value, torch.Tensor):
        data = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(data).hexdigest()}"
    if isinstance(value, Mapping):
        return {str(key): told(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(inner) for inner in value]
    return value


def files(pattern: str) -> Callable[[Path], Result]:
    """The bytes of what matches a pattern, but for locks and what is hidden."""

    def result(work: Path) -> Result:
        found = (p for p in sorted(work.glob(pattern)) if p.is_file())
        seen = (p for p in found if not p.name.startswith(".") and p.suffix != ".lock")
        return {str(p.relative_to(work)): hashlib.sha256(p.read_bytes()).hexdigest() for p in seen}

    return result


def both(*results: Callable[[Path], Result]) -> Callable[[Path], Result]:
    return lambda work: {k: v for result in results for k, v in result(work).items()}


def export_result(work: Path) -> Result:
    """The networks and the manifest, but for what was measured."""
    manifest = json.loads((work / "x" / "manifest.json").read_text())
    kept = {key: value for key, value in manifest.items() if key not in ("measured", "versions")}
    return {"manifest": kept, **files("x/**/*.onnx")(work)}


LONG = (
    "hydra.run.dir=run model.iterations=20 trainer.val_check_interval=5 "
    "callbacks.checkpoint.every_n_train_steps=2 "
    "callbacks.stream.points=4 callbacks.exit_thresholds.seed=0"
)
RECIPE = " ".join(
    f"dataset.recipe.{key}={value}"
    for key, value in {
        "train_identities": 4,
        "test_identities": 4,
        "cameras": 2,
        "images_per_camera": 2,
        "distractors": 2,
        "junk": 1,
        "height": 64,
        "width": 32,
    }.items()
)
NETWORK = ("--checkpoint", "@checkpoint", "--images", "@people/bounding_box_test")


def copied_gallery(stage: Stage, work: Path) -> None:
    shutil.copytree(stage.gallery, work / "g")


def copied_run(stage: Stage, work: Path) -> None:
    """A finished training, to be tested again."""
    shutil.copytree(stage.run, work / "run")


JOBS = {
    "training": Job(training(LONG), run_result, resumed="ckpt_path=last"),
    "training with workers": Job(
        training(f"{LONG} dataset.workers=2"), run_result, resumed="ckpt_path=last"
    ),
    "cache": Job(
        training("hydra.run.dir=run dataset.cache=disk dataset.cache_dir=cache"),
        both(run_result, files("cache/*")),
        resumed="ckpt_path=last",
    ),
    "rendering": Job(
        training(f"hydra.run.dir=run dataset=synthetic dataset.root=drawn {RECIPE}"),
        both(run_result, files("drawn/**/*")),
        resumed="ckpt_path=last",
    ),
    "test": Job(
        training("hydra.run.dir=run task=test ckpt_path=last callbacks.stream.points=4"),
        run_result,
        prepare=copied_run,
    ),
    "gallery build": Job(
        ("build", *NETWORK, "--out", "g", "--batch-size", "1", "--overwrite"),
        files("g/*"),
        "reid_lab.gallery",
    ),
    "gallery add": Job(
        ("add", "g", *NETWORK, "--batch-size", "1"),
        files("g/*"),
        "reid_lab.gallery",
        prepare=copied_gallery,
    ),
    "export": Job(
        ("--checkpoint", "@checkpoint", "--out", "x", "--overwrite"),
        export_result,
        "reid_lab.export",
    ),
    "frontier": Job(("@run", "--out", "out"), files("out/**/*.csv"), "reid_lab.frontier"),
}
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
HOW_OFTEN = {
    "training": 28,
    "training with workers": 8,
    "cache": 8,
    "rendering": 8,
    "test": 12,
    "gallery build": 8,
    "gallery add": 8,
    "export": 8,
    "frontier": 4,
}
# name of the job, number of the kill, whether the temporary folder is on another file system
KILLS = [(name, number, False) for name, often in HOW_OFTEN.items() for number in range(often)]
KILLS += [("training", 100 + number, True) for number in range(8)]
KILLS += [("test", 100 + number, True) for number in range(4)]
MEMORY = Path("/dev/shm")


class Killer:
    """Runs jobs in folders of their own; what an undisturbed one gives is kept."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.whole: dict[str, tuple[Result, float]] = {}

    def undisturbed(self, name: str) -> tuple[Result, float]:
        """The result of a job, and how long it took."""
        if name not in self.whole:
            folder, begin = self.prepared(name, self.made(name)), time.monotonic()
            self.finish(self.start(name, folder, {}))
            self.whole[name] = (JOBS[name].result(workplace(folder)), time.monotonic() - begin)
        return self.whole[name]

    def prepared(self, name: str, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        places(folder)
        prepare = JOBS[name].prepare
        if prepare:
            prepare(self.bench.stage, workplace(folder))
        return folder

    def start(
        self, name: str, folder: Path, environment: Mapping[str, str], again: bool = False
    ) -> Running:
        job, work = JOBS[name], workplace(folder)
        goes_on = again and job.resumed and (work / "run" / "checkpoints" / "last.ckpt").is_file()
        words = [*job.arguments, *([job.resumed] if goes_on else [])]
        filled = [self.bench.stage.fill(word, work) for word in words]
        return start(self.bench.launcher, job.module, filled, folder, environment)

    def finish(self, running: Running) -> None:
        status = running.wait(TIME_LIMIT)
        assert status == 0, f"status {status}: {running.text()[-3000:]}"

    def kill(self, name: str, folder: Path, share: float, by: int, environment: Any) -> Running:
        """Start a job and kill it after about this share of its time."""
        while True:
            running = self.start(name, self.prepared(name, folder), environment)
            if running.wait(share * self.undisturbed(name)[1]) is None:
                running.kill(by)
                return running
            share *= 0.7

    def made(self, name: str) -> Path:
        """The folder of an undisturbed job; short, since sockets below it have 107 letters."""
        return self.folder / str(list(JOBS).index(name))


def workplace(folder: Path) -> Path:
    return folder / WORK


@pytest.fixture(scope="session")
def killer(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Killer:
    return Killer(bench, tmp_path_factory.mktemp("u"))


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than the tests' own."""
    if not MEMORY.is_dir() or MEMORY.stat().st_dev == Path.cwd().stat().st_dev:
        pytest.skip("no /dev/shm on a file system of its own")
    folder = MEMORY / f"reid_lab_torture_{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.torture("kills", share=35)
@pytest.mark.parametrize(("name", "number", "apart"), KILLS)
def test_killed_and_started_again(
    killer: Killer,
    name: str,
    number: int,
    apart: bool,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> None:
    wanted, _ = killer.undisturbed(name)
    environment = {"TMPDIR": str(request.getfixturevalue("elsewhere"))} if apart else {}
    by = SIGNALS[number % len(SIGNALS)]
    share = random.Random(f"{name} {number}").uniform(0.1, 1)
    folder = tmp_path_factory.mktemp("k") / "c"
    running = killer.kill(name, folder, share, by, environment)
    status = running.wait(TIME_LIMIT)
    said = f"{by.name} at {share:.2f}: status {status}: {running.text()[-3000:]}"
    assert status is not None, f"does not end: {said}"
    assert TRACEBACK.search(running.text()) is None, said
    assert by != signal.SIGKILL or status in (-signal.SIGKILL, 0), said
    assert not (left := running.left()), f"left behind: {left}; {said}"
    killer.finish(killer.start(name, folder, environment, again=True))
    found = JOBS[name].result(workplace(folder))
    differing = unlike(wanted, found)
    assert not differing, f"{said}\ndiffers: {differing[:20]}"
    assert not outside(folder)
    beside = {path.name for path in workplace(folder).iterdir()}
    assert beside == {path.name for path in workplace(killer.made(name)).iterdir()}, said


@pytest.mark.torture("kills", share=1)
def test_a_full_disk_costs_nothing(killer: Killer, tmp_path: Path) -> None:
    """Training stops in one message, keeps its checkpoint, and goes on once there is room."""
    name, folder = "training", killer.prepared("training", tmp_path / "case")
    run = workplace(folder) / "run"
    run.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(run)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        running = killer.start(name, folder, {})
        checkpoint = run / "checkpoints" / "last.ckpt"
        while not checkpoint.is_file() and running.wait(0) is None:
            time.sleep(0.01)
        fill(run)
        status = running.wait(TIME_LIMIT)
        said = f"status {status}: {running.text()[-3000:]}"
        assert status and status > 0 and not TRACEBACK.search(said), said
        assert "space" in running.text(), said
        torch.load(checkpoint, weights_only=True)  # is whole
        (run / "filler").unlink()
        killer.finish(killer.start(name, folder, {}, again=True))
        wanted, _ = killer.undisturbed(name)
        found = run_result(workplace(folder))
        assert not unlike(wanted, found)
    finally:
        subprocess.run(["umount", str(run)], check=True)


def fill(folder: Path) -> None:
    """Leave no room on the file system of `folder`."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
