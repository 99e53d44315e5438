"""A run on two machines: two process groups on the loopback, with gloo."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from reid_lab.config.paths import claimed, started_by
from reid_lab.errors import UserError
from reid_lab.run.processes import is_connection_error, remove_lost_markers, reports_lost
from tests.launcher import Launcher, Starter
from tests.model.test_distilled import SAME
from tests.ranks import end_well, free_port, start_ranks
from tests.test_cli import RUN, exits
from tests.undrawn import UNDRAWN

SPREAD = (
    *("trainer=ddp", "trainer.sync_batchnorm=false", "trainer.devices=1"),
    *("+trainer.num_nodes=2", "threads=1"),
)


def torchrun(starter: Launcher | Starter, folder: Path, *words: str) -> None:
    """`torchrun` on two machines of one process each; both end well."""
    port = free_port()
    one = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}")
    end_well(
        [
            starter.start(
                "torch.distributed.run",
                [*one, f"--node-rank={i}", "-m", *words],
                folder,
                folder / f"node{i}.txt",
            )
            for i in (0, 1)
        ]
    )


def alone(starter: Launcher | Starter, folder: Path, module: str, *words: str) -> None:
    end_well([starter.start(module, words, folder, folder / "alone.txt", UNDRAWN)])


@pytest.mark.system
def test_two_nodes_evaluate_as_one(
    starter: Launcher | Starter, tmp_path: Path, people: Path
) -> None:
    few = ("callbacks.throughput=null", "callbacks.cost=null", f"dataset.root={people}")
    alone(starter, tmp_path, "reid_lab", *RUN, *few, "hydra.run.dir=one")
    again = ("task=test", "ckpt_path=one/checkpoints/last.ckpt", "hydra.run.dir=two")
    torchrun(starter, tmp_path, "reid_lab", *RUN, *few, *SPREAD, *again)
    assert exits(tmp_path / "two") == exits(tmp_path / "one")


@pytest.mark.system
def test_two_nodes_train_as_one_which_goes_on(
    starter: Launcher | Starter, tmp_path: Path, people: Path
) -> None:
    """Ten steps on two machines and ten on one are twenty on one: no batch norm, the same bits."""
    module, words = "tests.train_linear", (str(people), "1")
    ten = (*words, str(tmp_path / "ten"), "2", "10")
    end_well(start_ranks(starter, module, ten, tmp_path, "NODE_RANK"))
    ten_more = (str(tmp_path / "ended"), "1", "20", str(tmp_path / "ten.ckpt"))
    alone(starter, tmp_path, module, *words, *ten_more)
    alone(starter, tmp_path, module, *words, str(tmp_path / "whole"), "1", "20")
    found, wanted = (
        torch.load(tmp_path / name, weights_only=True)["layer.weight"]
        for name in ("ended", "whole")
    )
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.system
def test_two_nodes_keep_a_teachers_outputs_in_folders_of_their_own(
    starter: Launcher | Starter, tmp_path: Path, people: Path
) -> None:
    """Each keeps all of them; where one lacks its copy, both compute them again."""
    few = ("callbacks.throughput=null", "callbacks.cost=null", f"dataset.root={people}")
    network = ("backbone=small", "backbone.width=4")
    short = [word for word in RUN if not word.startswith(("model", "backbone"))]
    words = (*short, *network, *few, *SAME)
    teacher = ("model=classifier", "model.iterations=1", "hydra.run.dir=teacher")
    alone(starter, tmp_path, "reid_lab", *words, *teacher)
    taught = ("model=distilled", "model.teacher=teacher/checkpoints/last.ckpt")
    own = ("model.cache=cache${oc.env:NODE_RANK}", "model.student.iterations=1")
    for run in ("first", "second"):
        two = (*words, *SPREAD, *taught, *own, f"hydra.run.dir={run}")
        end_well(start_ranks(starter, "reid_lab", two, tmp_path, "NODE_RANK"))
        one, other = (next((tmp_path / f"cache{node}").iterdir()) for node in (0, 1))
        assert one.read_bytes() == other.read_bytes()
        other.write_bytes(one.read_bytes()[:100])  # damaged


@pytest.mark.system
def test_a_killed_rank_ends_all_with_one_message_and_one_process_goes_on(
    starter: Launcher | Starter, tmp_path: Path, people: Path
) -> None:
    long = (*RUN, f"dataset.root={people}", "callbacks.checkpoint.every_n_train_steps=2")
    words = (*long, *SPREAD, "model.iterations=3000", "hydra.run.dir=run")
    first, second = start_ranks(starter, "reid_lab", words, tmp_path, "NODE_RANK")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    deadline = time.time() + 200
    while not last.is_file() and first.wait(0) is None and time.time() < deadline:
        time.sleep(0.05)
    second.kill(signal.SIGKILL)
    assert second.wait(60) == -signal.SIGKILL
    assert first.wait(120) == 1 and "Traceback" not in first.text(), first.text()
    assert len(re.findall("another process of the run ended", first.text())) == 1
    assert "resume with the same command and ckpt_path=last" in first.text()
    begun = torch.load(last, weights_only=True)["global_step"]
    few = ("callbacks.throughput=null", "callbacks.cost=null", f"trainer.max_steps={begun + 2}")
    goes_on = (*long, "model.iterations=3000", *few, "threads=1", "ckpt_path=last")
    alone(starter, tmp_path, "reid_lab", *goes_on, "hydra.run.dir=run")
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (record["from_step"], record["steps"]) == (begun, begun + 2)
    assert exits(tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "launcher"),
    [
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}, "torchrun"),
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1"}, ""),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_JOB_NAME": "train"}, "SLURM"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"}, ""),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, ""),
        ({"NODE_RANK": "1"}, "NODE_RANK"),
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, ""),
        ({}, ""),
    ],
)
def test_processes_that_share_a_run_are_given_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str], launcher: str
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC"))]:
        monkeypatch.delenv(name)
    for name in ("WORLD_SIZE", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert started_by() == launcher
    if launcher:
        with pytest.raises(UserError, match=rf"{launcher} started several .* hydra\.run\.dir="):
            claimed(str(tmp_path / "x"))
        assert not (tmp_path / "x").exists()
    else:
        assert Path(claimed(str(tmp_path / "x"))).is_dir()


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error: Connection reset"), True),
        (RuntimeError("Connection closed by peer [10.0.0.1]:4"), True),
        (torch.distributed.DistNetworkError("The client socket has failed"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 3x2)"), False),
    ],
)
def test_errors_about_a_connection(error: RuntimeError, lost: bool) -> None:
    assert is_connection_error(error) is lost


@pytest.mark.parametrize("environment", [SLURMEnvironment, TorchElasticEnvironment])
def test_the_first_process_that_is_left_reports_a_lost_one(
    tmp_path: Path, environment: Any
) -> None:
    third, second = (trainer_of(tmp_path, environment, rank) for rank in (2, 1))
    for _ in range(2):  # resumed, and lost again
        assert [reports_lost(each) for each in (third, second)] == [True, False]
        remove_lost_markers(tmp_path)
        assert not list(tmp_path.iterdir())


def test_of_lightnings_processes_the_one_that_started_the_others_reports_a_lost_one(
    tmp_path: Path,
) -> None:
    """It kills the others, which might not be done with a report."""
    third, first = (trainer_of(tmp_path, LightningEnvironment, rank) for rank in (2, 0))
    assert [reports_lost(each) for each in (third, first)] == [False, True]


@pytest.mark.parametrize(("rank", "reports"), [(0, True), (1, False)])
def test_without_a_folder_to_write_into_the_first_process_reports(
    tmp_path: Path, rank: int, reports: bool
) -> None:
    (tmp_path / "file").touch()
    assert reports_lost(trainer_of(tmp_path / "file", SLURMEnvironment, rank)) is reports


def trainer_of(folder: Path, environment: Any, rank: int) -> Any:
    strategy = SimpleNamespace(cluster_environment=environment.__new__(environment))
    return SimpleNamespace(strategy=strategy, local_rank=rank, default_root_dir=str(folder))
