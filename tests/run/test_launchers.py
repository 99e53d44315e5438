"""Hydra's launchers: a job that is killed leaves the others alone, and is repeated alone."""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

import reid_lab.__main__ as program
from reid_lab.config.dry_run import try_trainer
from reid_lab.errors import UserError
from reid_lab.interrupt import TIME_IS_UP, Interrupted
from reid_lab.run import multirun
from tests import fake_slurm
from tests.conftest import Compose
from tests.run.test_multirun import CONFIG
from tests.run.test_transfer import QUICK
from tests.test_cli import RUN

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL"),
]

# a=5 runs until a=0 is killed, and a while longer
PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from reid_lab.cli.show.run import print_pending
from reid_lab.config.paths import register_resolvers

register_resolvers()

@hydra.main(config_path=".", config_name="config", version_base="1.3")
def main(cfg):
    with open("begun.txt", "a") as file:
        file.write(f"{cfg.a}\\n")
    folder = Path(HydraConfig.get().runtime.output_dir, "results")
    if cfg.a == 0 and not Path("fixed").exists():
        while "5" not in Path("begun.txt").read_text():
            time.sleep(0.05)
        Path("dying").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while cfg.a == 5 and not Path("dying").exists():
        time.sleep(0.05)
    time.sleep(0.5 * (cfg.a == 5))
    folder.mkdir(exist_ok=True)
    summary = {"metrics": {"test/x/rank1": cfg.a / 10, "test/x/mAP": 0.25}}
    (folder / "summary.json").write_text(json.dumps({**summary, "mul_adds": {"x": 1000}}))

if "submitit" in sys.argv[2]:
    import submitit
    submitit.Job._results_timeout_s = 1  # for the file of a job that has ended
try:
    main()
finally:
    print_pending()
"""
LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local",),
    "submitit_slurm": ("hydra/launcher=submitit_slurm",),
}


def run(folder: Path, *words: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "program.py").write_text(program)
    return python(folder, "program.py", *words)


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    slurm = fake_slurm.install(folder / "slurm") if "slurm" in str(words) else {}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | slurm | {"PYTHONPATH": str(Path(multirun.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )


def rows(folder: Path) -> list[tuple[str, str, str]]:
    (path,) = folder.glob("out/*/runs.csv")
    with path.open(newline="") as file:
        return [(row["a"], row["status"], row["error"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_job_leaves_the_others_alone(tmp_path: Path, launcher: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    done = run(tmp_path, "-m", *LAUNCHERS[launcher], "a=5,0,1")
    assert done.returncode == 1, done.stderr
    first, killed, *others = rows(tmp_path)
    assert [first, *others] == [(a, "done", "") for a in "51"]
    assert killed[:2] == ("0", "failed")
    assert killed[2].startswith("its process was killed, or ended early (out of memory?)")
    assert killed[2].endswith(": OUT_OF_MEMORY") == (launcher == "submitit_slurm")

    lines = [line for line in done.stdout.splitlines() if "job 1: python -m reid_lab" in line]
    assert len(lines) == 2, done.stdout  # when it was found, and at the end
    (tmp_path / "fixed").touch()
    again = run(tmp_path, *shlex.split(lines[-1].partition(" reid_lab ")[2]))
    assert again.returncode == 0, again.stderr
    assert rows(tmp_path) == [(a, "done", "") for a in "501"]
    times = Counter((tmp_path / "begun.txt").read_text().split())
    in_pool = launcher == "joblib"  # the pool does not say which of two it was
    assert times == {"5": 1 + in_pool, "0": 2 + in_pool, "1": 1}


class OddError(Exception):
    """Unpickling it gives its one argument to a constructor that takes two."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")


def test_an_error_that_cannot_be_sent_is_sent_as_its_text() -> None:
    """joblib's pool ends all jobs when it cannot read what one raised."""
    sent = multirun._portable(OddError(3, "ends"))
    assert type(sent) is RuntimeError and str(sent) == "OddError: 3 ends"
    error = UserError("as it is")
    assert multirun._portable(error) is error


def test_a_pool_that_breaks_before_any_job_says_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    # ends the process that unpickles it
    ends = "class Ends:\n    def __reduce__(self):\n        return os._exit, (9,)\n\n"
    ended = PROGRAM.replace("@hydra", ends + "@hydra").replace("main(cfg)", "main(cfg, _=Ends())")
    done = run(tmp_path, "-m", *LAUNCHERS["joblib"], "a=1,2", program=ended)
    assert done.returncode == 1 and "TerminatedWorkerError" in done.stderr, done.stderr
    assert rows(tmp_path) == [("1", "not started", ""), ("2", "not started", "")]
    assert len([line for line in done.stdout.splitlines() if ": python -m reid_lab" in line]) == 2


@pytest.mark.parametrize(
    ("code", "mode", "raised"),
    [
        (TIME_IS_UP, RunMode.MULTIRUN, UserError),
        (TIME_IS_UP, RunMode.RUN, Interrupted),
        (130, RunMode.MULTIRUN, Interrupted),
    ],
)
def test_a_deadline_ends_a_job_and_ctrl_c_the_sweep(
    monkeypatch: pytest.MonkeyPatch, code: int, mode: RunMode, raised: type[BaseException]
) -> None:
    def run(cfg: object, outcome: object) -> None:
        raise Interrupted(code, "resume it")

    monkeypatch.setattr("reid_lab.run.run.run", run)
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=mode))
    with pytest.raises(raised) as caught:
        program._job.__wrapped__({})
    assert type(caught.value) is raised


def sweep_seeds(folder: Path, people: Path, *words: str) -> tuple[Path, str]:
    """Train with two seeds, which must end well: the table of runs, and what was printed."""
    few = (*RUN, *QUICK, f"dataset.root={people}", "threads=1")
    done = python(folder, "-m", "reid_lab", "-m", "seed=0,1", *words, *few)
    assert done.returncode == 0, done.stdout + done.stderr
    (table,) = folder.glob("multirun/*/runs.csv")
    with table.open(newline="") as file:
        found = [(row["seed"], row["status"], row["fusion/rank1"]) for row in csv.DictReader(file)]
    assert [row[:2] for row in found] == [("0", "done"), ("1", "done")]
    assert all(0 <= float(rank1) <= 1 for *_, rank1 in found)
    return table, done.stdout


def test_slurm_runs_a_sweep(tmp_path: Path, people: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ("hydra/launcher=submitit_slurm", "+hydra.callbacks.runs_table.x=seed")
    table, printed = sweep_seeds(tmp_path, people, *words)
    for name in ("means.csv", "sweep_rank1.png", "sweep_mAP.png"):
        assert (table.parent / name).is_file() and f"{table.parent / name}" in printed
    jobs = [*(tmp_path / "slurm/states").iterdir()]
    deadline = time.monotonic() + 60  # a state is written once its process ends, after its results
    while (states := [job.read_text() for job in jobs]) != ["COMPLETED", "COMPLETED"]:
        assert time.monotonic() < deadline, states
        time.sleep(0.05)


def test_ray_runs_a_sweep(tmp_path: Path, people: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    sweep_seeds(tmp_path, people, "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")


@pytest.mark.parametrize(
    ("tasks", "words", "wrong"),
    [
        ("1", (), False),
        ("2", (), True),  # two trainings in one folder
        ("1", ("trainer=ddp", "trainer.devices=2"), True),
        ("2", ("trainer=ddp", "trainer.devices=2"), False),
    ],
)
def test_slurm_starts_a_task_for_each_device(
    composed: Compose,
    monkeypatch: pytest.MonkeyPatch,
    tasks: str,
    words: tuple[str, ...],
    wrong: bool,
) -> None:
    slurm = {"JOB_ID": "7", "JOB_NAME": "x", "NNODES": "1", "STEP_ID": "0", "PROCID": "0"}
    slurm |= {"NTASKS": tasks, "NTASKS_PER_NODE": tasks, "LOCALID": "0", "NODEID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    problems, trainer = try_trainer(composed(*words))
    assert (trainer is None) == wrong == bool(problems)
    if wrong:
        devices = {"1": 2, "2": 1}[tasks]
        assert problems[0].key == "trainer.devices" and problems[0].given == devices
        assert f"hydra.launcher.tasks_per_node={devices}" in problems[0].fix
