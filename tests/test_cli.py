"""The command line, in processes of their own: help, multirun, DDP, an interruption."""

from __future__ import annotations

import csv
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reid_lab.__main__ import main, shared_folder
from tests.conftest import SMALL, TINY
from tests.launcher import Launched, Launcher, Running, Starter
from tests.ranks import end_well, start_ranks
from tests.undrawn import UNDRAWN

pytestmark = pytest.mark.system

RUN = (
    *SMALL,
    "name=tiny",
    "dataset=folder",
    *TINY,
    "model.iterations=6",
    "trainer.log_every_n_steps=1",
)


class Commands:
    """Runs in a folder, in processes of their own."""

    def __init__(self, starter: Launcher | Starter, folder: Path) -> None:
        self.starter, self.folder = starter, folder

    def start(self, *overrides: str, **environment: str) -> Running | Launched:
        output = self.folder / "output.txt"
        own = {**UNDRAWN, **environment}
        return self.starter.start("reid_lab", overrides, self.folder, output, own)

    def call(self, *overrides: str, status: int = 0) -> str:
        process = self.start(*overrides)
        assert process.wait(300) == status, process.text()
        return process.text()


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Hydra's handlers, of a file in the test's folder, end with the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in {*root.handlers} - {*before}:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def commands(starter: Launcher | Starter, tmp_path: Path) -> Commands:
    return Commands(starter, tmp_path)


def read_rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def exits(folder: Path) -> str:
    (found,) = folder.rglob("results/exits.csv")
    return found.read_text()


def test_help_shows_groups_and_keys(commands: Commands) -> None:
    output = commands.call("--help")
    for fragment in ("python -m reid_lab +experiment=demo", "demo", "iterations", "dare_market"):
        assert fragment in output


def test_an_error_is_one_message_without_traceback(commands: Commands) -> None:
    output = commands.call(*RUN, "+model.heads=2", "dataset.root=/nowhere", status=1)
    assert "2 problems" in output
    assert "model.heads" in output
    assert "/nowhere does not exist" in output
    assert "Traceback" not in output


def test_a_multirun_has_one_table_which_a_repeated_job_completes(
    commands: Commands, tmp_path: Path, people: Path
) -> None:
    nameless = [word for word in RUN if word != "name=tiny"]
    nameless += ["callbacks.cost=null", "callbacks.throughput=null"]
    swept = (f"dataset.root={people},later", "name=job_${hydra:job.num}")
    output = commands.call("-m", *nameless, *swept, status=1)
    assert "later does not exist" in output and "Traceback" not in output
    (table,) = tmp_path.glob("multirun/*/runs.csv")
    assert [job["status"] for job in read_rows(table)] == ["done", "failed"]
    (tmp_path / "later").symlink_to(people)
    (command,) = set(re.findall("job 1: python -m reid_lab (.*)", output))
    output = commands.call(*shlex.split(command))
    assert "dataset.root" in output and "All figures:" in output
    jobs = read_rows(table)
    assert [job["dataset.root"] for job in jobs] == [str(people), "later"]
    assert all(job["status"] == "done" and float(job["fusion/mAP"]) >= 0 for job in jobs)
    assert not (tmp_path / "runs").exists()


def test_two_processes_evaluate_as_one(commands: Commands, tmp_path: Path, people: Path) -> None:
    ranking = ("callbacks.ranking.pca=4", "callbacks.ranking.rerank=k_reciprocal")
    trained = ("callbacks.throughput=null", f"dataset.root={people}", *ranking)
    commands.call(*RUN, *trained, "hydra.run.dir=one")
    again = (*RUN, *trained, "task=test", "ckpt_path=one/checkpoints/last.ckpt")
    two = ("trainer.devices=2", "+trainer.strategy=ddp", "dataset.cache=device")
    words = (*again, "hydra.run.dir=two", *two)
    end_well(start_ranks(commands.starter, "reid_lab", words, tmp_path))
    assert exits(tmp_path / "two") == exits(tmp_path / "one")


def test_two_processes_train_and_test(commands: Commands, tmp_path: Path, people: Path) -> None:
    """As a user starts them: the first starts the second as it was started."""
    cpu = ("trainer=ddp", "trainer.sync_batchnorm=false")  # it needs GPUs
    held = (f"dataset.root={people}", "dataset.cache=device", "dataset.workers=1")
    end_well([commands.start(*RUN, *held, "hydra.run.dir=ddp", *cpu)])
    assert "fusion" in exits(tmp_path / "ddp")


def test_two_processes_mine_the_whole_pk_batch_and_share_the_ranking(
    commands: Commands, tmp_path: Path, people: Path
) -> None:
    one, two = ((str(people), devices, str(tmp_path / f"{devices}.pt")) for devices in "12")
    alone = commands.starter.start("tests.train_linear", one, tmp_path, tmp_path / "output.txt")
    end_well([alone, *start_ranks(commands.starter, "tests.train_linear", two, tmp_path)])
    saved = [torch.load(tmp_path / f"{devices}.pt", weights_only=True) for devices in "12"]
    weights, ap, again = (
        [each[name] for each in saved] for name in ("layer.weight", "ap", "again")
    )
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-4)
    assert ap[0].equal(ap[1]) and again[0].equal(again[1])


def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(
    commands: Commands, tmp_path: Path, people: Path
) -> None:
    long = (*RUN, f"dataset.root={people}", "model.iterations=40", "model.lr=1e-3")
    often = (*long, "callbacks.checkpoint.every_n_train_steps=2")
    process = commands.start(*often)
    deadline = time.time() + 120
    while not list(tmp_path.rglob("last.ckpt")) and time.time() < deadline:
        time.sleep(0.02)
    process.kill(signal.SIGKILL)
    assert process.wait(60) is not None
    if list(tmp_path.rglob("exits.csv")):
        pytest.skip("it had finished before it was killed")
    commands.call(*often, "ckpt_path=last")
    assert len(list((tmp_path / "runs" / "tiny").iterdir())) == 1  # the same folder
    commands.call(*often, "hydra.run.dir=whole")
    assert exits(tmp_path / "runs") == exits(tmp_path / "whole")


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(
    ("words", "says", "status"),
    [
        ("--model.lr=1", "model.lr=1\n       (in a W&B sweep's command: ${args_no_hyphens}", 2),
        ("--hlep", "did you mean --help?", 2),
        ("=3", "key=3", 2),
        ("-m +experiment=demo seed=0,1 run_dir=mine", "fix: hydra.sweep.dir=mine", 2),
        ("hydra.mode=MULTIRUN run_dir=mine seed=0,1", "fix: hydra.sweep.dir=mine", 2),
        ("weights inspect a.pth", "fix: reid-lab weights inspect a.pth", 2),
        ("run +experiment=demo", "fix: reid-lab run +experiment=demo", 2),
        ("model.lr 1", "model.lr=1", 1),
        ("experiment=demo", "+experiment=demo", 1),
        ("+experiment=dmeo", "did you mean +experiment=demo?", 1),
        ("backbone=smal", "did you mean backbone=small?", 1),
        ("model.lrr=1", "did you mean model.lr=1?", 1),
        ("lr=1", "did you mean model.lr=1?", 1),
        ("-m +experiment=demo seed=0,1 model.iteratoins=5", "mean model.iterations=5?", 1),
        ("trainer.gradient_clip_val=1", "add it with a plus: +trainer.gradient_clip_val=1", 1),
        (
            "+experiment=distill_mobilenetv2_cuhk03_cpu model.exits={stage3:fusion}",
            "fix: '~model.exits.stage1' +model.exits.stage3=fusion",
            1,
        ),
        ("trainer=null trainer.devices=1", "leave out trainer.devices=... or trainer=null", 1),
        ("ckpt_path=a/epoch=1.ckpt", """'ckpt_path="a/epoch=1.ckpt"'""", 1),
        ("ckpt_path=a(1).ckpt", """'ckpt_path="a(1).ckpt"'""", 1),
        ("model.lr=1e-4,3e-4", "-m model.lr=1e-4,3e-4", 1),
        ("a.b=1 seed=x lr=1 task=fti", "the default is seed=0", 1),
        ("a.b=1 seed=x lr=1 task=fti", "did you mean task=fit?", 1),
        ("a.b=1 seed=x lr=1 task=fti", "did you mean model.lr=1?", 1),
        ("a.b=1 seed=x lr=1 task=fti", "a.b: unknown key", 1),
        ("name=study/mine seed=x", "the default is seed=0", 1),
        ("hydra.run.dir=mine seed=x", "the default is seed=0", 1),
        ("run_dir=mine seed=x", "the default is seed=0", 1),
        ("name=../../x", "a folder below runs/", 1),
        ("name=/tmp/x", "a folder below runs/", 1),
        ("hydra.run.dir=/dev/null/x", "the run's folder cannot be made", 1),
        ("--resolve", "--resolve", 1),
    ],
)
def test_what_people_type_is_answered_with_what_to_type(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    says: str,
    status: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reid_lab", *words.split(" ")])
    monkeypatch.setattr("reid_lab.__main__.raise_on_signals", lambda: None)
    monkeypatch.setattr("logging.raiseExceptions", True)  # restored afterwards
    monkeypatch.setattr("reid_lab.__main__._started", True)  # by a command before
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status
    told = capsys.readouterr().err
    assert says in told and "Traceback" not in told
    assert not list(tmp_path.parent.glob("x"))
    assert not list(tmp_path.iterdir()), "a refused run leaves no folder"


@pytest.mark.parametrize("words", ["-m run_dir=a,b", "-m run_dir=${seed}", "run_dir=a"])
def test_a_run_may_have_a_folder_of_its_own(words: str) -> None:
    assert not shared_folder(words.split())


@pytest.mark.parametrize("option", ["-m", "--multirun"])
def test_a_sweep_may_be_asked_for_between_keys(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    words = ["+experiment=demo", option, "model.lr=1,2", "--cfg", "job"]
    monkeypatch.setattr(sys, "argv", ["reid_lab", *words])
    monkeypatch.setattr("reid_lab.__main__.raise_on_signals", lambda: None)
    monkeypatch.setattr("logging.raiseExceptions", True)  # restored afterwards
    seen: list[list[str]] = []
    monkeypatch.setattr("reid_lab.__main__._job", lambda: seen.append(sys.argv[1:]))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert seen == [[option, "+experiment=demo", "model.lr=1,2", "--cfg", "job"]]


@pytest.mark.usefixtures("own_logging")
def test_a_refused_run_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept in ("runs/demo/before/reid_lab.log", "mine/notes.txt"):
        (tmp_path / kept).parent.mkdir(parents=True)
        (tmp_path / kept).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reid_lab.__main__.raise_on_signals", lambda: None)
    monkeypatch.setattr("logging.raiseExceptions", True)  # restored afterwards
    for words in (["+experiment=demo", "seed=x"], ["hydra.run.dir=mine", "seed=x"]):
        monkeypatch.setattr(sys, "argv", ["reid_lab", *words])
        with pytest.raises(SystemExit):
            main()
    assert [run.name for run in (tmp_path / "runs/demo").iterdir()] == ["before"]
    assert (tmp_path / "mine/notes.txt").is_file()


def test_a_cut_pipe_is_no_error(tmp_path: Path) -> None:
    for module in ("reid_lab", "reid_lab.cli", "reid_lab.cli.main"):
        command = [sys.executable, "-m", module, "--help"]
        end, start_of_pipe = os.pipe()
        os.close(end)  # nobody reads
        process = subprocess.run(command, stdout=start_of_pipe, stderr=subprocess.PIPE, text=True)
        os.close(start_of_pipe)
        assert process.returncode in (0, 141) and not process.stderr, module


def test_the_traceback_stays_to_be_had(commands: Commands) -> None:
    process = commands.start("model.lrr=1", HYDRA_FULL_ERROR="1")
    assert process.wait(300) == 1 and "Traceback" in process.text()
