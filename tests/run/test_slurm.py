"""A job of SLURM with two tasks, which share a run, by the commands that stand in for SLURM's."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import fake_slurm
from tests.launcher import ROOT, Launcher, Starter
from tests.ranks import end_well, free_port
from tests.test_cli import RUN, exits
from tests.undrawn import UNDRAWN

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform == "win32", reason="has no bash"),
]

HEAD = """#!/bin/bash
#SBATCH --job-name=train
#SBATCH --ntasks-per-node=2
#SBATCH --output=%j.txt
#SBATCH --error=%j.txt
"""
DDP = ("trainer=ddp", "trainer.sync_batchnorm=false", "trainer.devices=2", "threads=1")


class Slurm:
    """Jobs that are submitted in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "slurm"
        installed = fake_slurm.install(self.place)
        paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        self.environment = {**os.environ, **UNDRAWN, **installed, "PYTHONPATH": paths}

    def submit(self, *words: str) -> str:
        script = self.folder / "job.sh"
        command = shlex.join([sys.executable, "-m", "reid_lab", *words])
        script.write_text(
            f"{HEAD}export MASTER_PORT={free_port()}\nsrun --kill-on-bad-exit=1 {command}\n"
        )
        said = subprocess.run(
            ["sbatch", str(script)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return said.stdout.split()[-1]

    def state(self, job: str) -> str:
        return (self.place / "states" / job).read_text()

    def ended(self, job: str, patience: float = 300) -> str:
        deadline = time.monotonic() + patience
        while self.state(job) == "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.state(job)

    def text(self, job: str) -> str:
        return (self.folder / f"{job}.txt").read_text()

    def kill(self, job: str, rank: int) -> None:
        os.kill(int((self.place / "tasks" / f"{job}-{rank}").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("killed", [0, 1])
def test_two_tasks_end_together_and_evaluate_as_one_process(
    starter: Launcher | Starter, tmp_path: Path, people: Path, killed: int
) -> None:
    slurm = Slurm(tmp_path)
    few = (*RUN, f"dataset.root={people}", "callbacks.throughput=null", "callbacks.cost=null")
    long = ("model.iterations=3000", "callbacks.checkpoint.every_n_train_steps=2")
    job = slurm.submit(*few, *DDP, *long, "hydra.run.dir=run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not last.is_file() and slurm.state(job) == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
    slurm.kill(job, killed)
    assert slurm.ended(job) != "COMPLETED"
    text = slurm.text(job)
    assert text.count("another process of the run ended") == 1 and "Traceback" not in text, text
    assert "resume with the same command and ckpt_path=last" in text
    assert f"task {1 - killed}: Exited with exit code 1" in text
    assert f"task {killed}: Killed" in text
    if killed == 0:
        return

    again = (*few, *long, "task=test", f"ckpt_path={last}")
    job = slurm.submit(*again, *DDP, "hydra.run.dir=two")
    assert slurm.ended(job) == "COMPLETED", slurm.text(job)
    one = (*again, "threads=1", "hydra.run.dir=one")
    end_well([starter.start("reid_lab", one, tmp_path, tmp_path / "one.txt", UNDRAWN)])
    assert exits(tmp_path / "two") == exits(tmp_path / "one")
