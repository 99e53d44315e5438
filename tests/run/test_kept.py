"""Nothing that ran is lost: kills, full disks, losses that diverge, runs that are finished."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from experiments.collect import main
from reid_lab.callbacks import CheckpointFiles, RankingEvaluation
from reid_lab.callbacks.loggers import MetricsFile
from reid_lab.config.build import build_trainer
from reid_lab.config.paths import last_checkpoint
from reid_lab.files.atomic import DiskFullError
from reid_lab.interrupt import Interrupted, status_of
from reid_lab.model.base import DivergedError, ReidModule
from reid_lab.report import load_run
from reid_lab.results import Results
from reid_lab.run.run import run
from tests.conftest import SMALL, Compose
from tests.launcher import Launcher, Starter
from tests.run.test_run import SIX_STEPS, UNNEEDED, rows

pytestmark = pytest.mark.system

FEW = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in UNNEEDED))


def kept(folder: Path) -> dict[str, bytes]:
    """What a training and its test leave, by path; not the log."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and "logs" not in p.parts]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_a_test_that_is_killed_leaves_everything_as_it_was(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = composed(*FEW)
    folder = Path(cfg.run_dir)
    run(cfg)
    before = kept(folder)
    trained = json.loads(before["training.json"])
    assert (trained["from_step"], trained["steps"]) == (0, 6) and trained["commit"]

    write = Results.write

    def killed(results: Results, new: Path) -> None:
        write(results, new)
        assert (folder / "results.new" / "exits.csv").is_file()
        assert len(load_run(folder).stream) == 4 * 8  # as a frontier drawn meanwhile sees it
        raise KeyboardInterrupt

    test = composed(*FEW, "task=test", "ckpt_path=last", "callbacks.stream.points=4")
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as end:
        patch.setattr(Results, "write", killed)
        run(test)
    assert end.value.code == 130
    assert "interrupted while testing; resume from" in end.value.message
    assert kept(folder) == before
    run(test)
    after = kept(folder)
    assert not any(name.startswith(("results.new", "results.old")) for name in after)
    for name in ("config.yaml", "training.json", "checkpoints/last.ckpt"):
        assert after[name] == before[name]
    summary = json.loads(after["results/summary.json"])
    assert summary["task"] == "test" and summary["training"] == trained
    assert "task: test" in load_run(folder).config
    assert len(load_run(folder).stream) == 4 * 4


def test_a_finished_run_resumed_elsewhere_is_whole_there(
    composed: Compose, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its metrics are logged at the same step, too.

    They were at a step less: its checkpoint is written before the last batch counts as ended,
    and a loop that has nothing to do does not count it. Compared by step and name, all 7 metrics
    of 6 exits and references then seemed to differ, though every value was the same.
    """
    caplog.set_level(logging.INFO, "reid_lab")
    cfg = composed(*FEW)
    run(cfg)
    last = last_checkpoint(Path(cfg.run_dir))
    other = composed(*FEW, f"ckpt_path={last}", run="other")
    run(other)
    assert f"nothing to train: {last} is at step 6 already" in caplog.text
    assert f"report: {other.run_dir}" in caplog.text
    assert "mAP" not in capsys.readouterr().out  # the command shows the accuracies
    one, two = kept(Path(cfg.run_dir)), kept(Path(other.run_dir))
    alike = ("checkpoints/last.ckpt", "training.json")
    alike += tuple(f"results/{name}.csv" for name in ("exits", "stream", "anytime"))
    assert all(one[name] == two[name] for name in alike)
    tested = []
    for folder in (cfg.run_dir, other.run_dir):
        (path,) = Path(folder).glob("logs/version_*/metrics.csv")
        tested += [row for row in rows(path) if row["test/fusion/mAP"]]
    at = ("step", "epoch")
    values = [{k: v for k, v in row.items() if k in at or "test/" in k} for row in tested]
    assert values[0] == values[1] and values[0]["step"] == "6"
    run(composed(*FEW, "model.iterations=8", f"ckpt_path={last}", run="longer"))
    longer = last_checkpoint(last.parents[2] / "longer")
    assert torch.load(longer, weights_only=True)["global_step"] == 8
    record = json.loads((longer.parents[1] / "training.json").read_text())
    assert (record["from_step"], record["steps"]) == (6, 8)


def test_the_time_of_a_resumed_run_is_that_of_all_its_parts(
    composed: Compose, tmp_path: Path
) -> None:
    """`elapsed_s` was that of the last part alone, also in the tables that studies collect."""
    cfg = composed(*FEW)
    run(cfg)
    last = last_checkpoint(Path(cfg.run_dir))
    state = torch.load(last, weights_only=True)
    state["callbacks"]["ElapsedTime"] = {"run": 50_000.0, "training": 40_000.0}
    torch.save(state, last)

    longer = composed(*FEW, "model.iterations=8", f"ckpt_path={last}", run="longer")
    run(longer)
    summary, trained = times(Path(longer.run_dir))
    assert 50_000 < summary < 60_000 and 40_000 < trained < 50_000
    main(str(tmp_path / "study"), longer.run_dir)
    assert {row["elapsed_s"] for row in rows(tmp_path / "study/results.csv")} == {str(summary)}

    again = composed(*FEW, "ckpt_path=last")  # trained already: only its test is repeated
    run(again)
    assert 50_000 < times(Path(again.run_dir))[0] < 60_000
    run(composed(*FEW, "task=test", "ckpt_path=last"))
    assert times(Path(again.run_dir))[0] < 10_000

    del state["callbacks"]["ElapsedTime"]  # as an earlier version wrote it
    torch.save(state, tmp_path / "old.ckpt")
    old = composed(*FEW, "model.iterations=8", f"ckpt_path={tmp_path / 'old.ckpt'}", run="old")
    run(old)
    content = json.loads((Path(old.run_dir) / "results/summary.json").read_text())
    assert content["elapsed_s"] < 10_000
    assert any("elapsed_s counts from here on" in note for note in content["notes"])


def times(folder: Path) -> tuple[float, float]:
    """The seconds of the run and those of its training."""
    summary = json.loads((folder / "results/summary.json").read_text())
    return summary["elapsed_s"], json.loads((folder / "training.json").read_text())["elapsed_s"]


@pytest.mark.parametrize(("precision", "factor"), [("32-true", "nan"), ("bf16-mixed", "inf")])
def test_a_training_that_diverges_stops_at_once(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, precision: str, factor: str
) -> None:
    take = ReidModule.losses

    def diverging(model: ReidModule, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        found, scale = take(model, batch), float(factor if model.global_step == 3 else 1)
        return found | {"stage2": found["stage2"] * scale}

    monkeypatch.setattr(ReidModule, "losses", diverging)
    every = ("callbacks.checkpoint.every_n_train_steps=1", f"trainer.precision={precision}")
    cfg = composed(*SIX_STEPS, *every)
    with pytest.raises(DivergedError) as error:
        run(cfg)
    told = str(error.value)
    found = (
        rf"the loss is {factor} \(stage1 .*, stage2 {factor}, .*\) at step 4 with .* rate 0\.0003"
    )
    assert re.search(found, told)
    assert "+trainer.gradient_clip_val=1" in told
    assert ("trainer.precision=32-true (now bf16-mixed)" in told) == (precision != "32-true")
    last = last_checkpoint(Path(cfg.run_dir))
    assert f"{last} is of an earlier step" in told
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 3
    assert all(bool(values.isfinite().all()) for values in saved["state_dict"].values())


def test_weights_that_are_not_finite_are_not_saved(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the loss is."""

    def broken(model: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if model.global_step == 4:
            next(iter(model.parameters())).data.fill_(torch.inf)

    monkeypatch.setattr(ReidModule, "on_train_batch_end", broken)
    cfg = composed(*SIX_STEPS, "callbacks.checkpoint.every_n_train_steps=1")
    monkeypatch.setattr(ReidModule, "diverged", lambda self: False)
    with pytest.raises(DivergedError, match=r"weights are not finite \(.*weight.*\) at step 5"):
        run(cfg)
    last = last_checkpoint(Path(cfg.run_dir))
    assert torch.load(last, weights_only=True)["global_step"] == 4


def test_a_full_disk_keeps_the_checkpoint(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleaning up fails for the same reason, and is not what is reported."""
    cfg = composed(*SIX_STEPS, "callbacks.checkpoint.every_n_train_steps=2")
    save = torch.save

    def also_full(self: MetricsFile) -> None:
        raise OSError(errno.ENOSPC, "no space")

    def full(content: Any, file: Any) -> None:
        if content["global_step"] == 4:
            file.write(b"half")
            monkeypatch.setattr(MetricsFile, "save", also_full)
            raise OSError(errno.ENOSPC, "no space")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DiskFullError, match=r"last\.ckpt .*MiB free.*unchanged"):
        run(cfg)
    last = last_checkpoint(Path(cfg.run_dir))
    assert torch.load(last, weights_only=True)["global_step"] == 2
    assert [path.name for path in last.parent.iterdir()] == [last.name]


@pytest.mark.parametrize(
    "plugins", ["", "+trainer.plugins=[{_target_: pytorch_lightning.plugins.io.AsyncCheckpointIO}]"]
)
def test_checkpoints_are_written_beside_the_old_one(composed: Compose, plugins: str) -> None:
    trainer = build_trainer(composed(*SIX_STEPS, *filter(None, [plugins])))
    io: Any = trainer.strategy.checkpoint_io
    assert isinstance(getattr(io, "checkpoint_io", io), CheckpointFiles)


@pytest.mark.parametrize(
    ("where", "doing", "how"),
    [
        ("reid_lab.run.run.check", "checking the config", "start again"),
        ("reid_lab.dataset.ReidDataModule.render", "making the data set", "start again"),
        ("reid_lab.dataset.ReidDataModule.prepare_data", "training", "start again"),
        ("reid_lab.model.ReidModule.validation_step", "training", "ckpt_path=last"),
        ("reid_lab.model.ReidModule.test_step", "testing", "last.ckpt (it is only tested) with"),
        ("reid_lab.run.run.write_report", "drawing the report; the results are in", "only tested"),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted(143)])
def test_an_interrupted_run_says_how_to_go_on(
    composed: Compose,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    doing: str,
    how: str,
    error: BaseException,
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(where, stopped)
    cfg = composed(*FEW, "callbacks.checkpoint.every_n_train_steps=1", "model.iterations=7")
    with pytest.raises(Interrupted) as end:
        run(cfg)
    assert end.value.code == (143 if isinstance(error, Interrupted) else 130)
    assert end.value.message.startswith(f"interrupted while {doing}")
    assert how in end.value.message


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (pl.utilities.exceptions.SIGTERMException(), 143),
        (Interrupted(143), 143),
        (SystemExit(3), None),
        (ValueError(), None),
    ],
)
def test_the_status_of_an_interrupt(error: BaseException, status: int | None) -> None:
    assert status_of(error) == status


IN_A_FORK = """
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
def work():
    os.fork() or os._exit(0)
"""
BESIDE_ANOTHER = f"""{IN_A_FORK}
os.register_at_fork(after_in_parent=lambda: 1 / 0)
"""
IN_A_FINALISER = """
class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
def work():
    Thing()
"""
BESIDE_ENDED_WORKERS = """
def complain(number, frame):
    raise RuntimeError("DataLoader worker is killed by signal: Terminated.")
signal.signal(signal.SIGCHLD, complain)
class Thing:
    def __del__(self):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
        finally:
            signal.raise_signal(signal.SIGCHLD)
def work():
    Thing()
"""
INTERRUPTED = """
from reid_lab.interrupt import Interrupted, raise_on_signals
raise_on_signals()
try:
    work()
    time.sleep(30)
except Interrupted:
    print("interrupted")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("where", [IN_A_FORK, BESIDE_ANOTHER, IN_A_FINALISER, BESIDE_ENDED_WORKERS])
def test_a_signal_where_python_drops_exceptions_is_not_lost(where: str) -> None:
    # Python 3.12 warns of a fork beside threads
    command = [sys.executable, "-W", "ignore", "-c", f"import os, signal, time{where}{INTERRUPTED}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert (ended.stdout, ended.stderr) == ("interrupted\n", "")


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_with_one_message(
    starter: Launcher | Starter, people: Path, tmp_path: Path, number: int, status: int
) -> None:
    """With workers, which get the signal, too."""
    steps = ("model.iterations=100000", "callbacks.checkpoint.every_n_train_steps=2")
    places = (f"dataset.root={people}", "dataset=folder", f"hydra.run.dir={tmp_path / 'run'}")
    words = [*SMALL, *SIX_STEPS[:4], *steps, *places, "dataset.workers=2", "name=stopped"]
    process = starter.start("reid_lab", words, tmp_path, tmp_path / "printed.txt")
    while not last_checkpoint(tmp_path / "run").is_file():
        assert process.wait(0.1) is None, process.text()
    os.killpg(process.pid, number)
    assert process.wait(120) == status, process.text()
    assert "Traceback" not in process.text()
    last = process.text().splitlines()[-1]
    assert last.startswith("interrupted while training; resume from")
    copied = shlex.split(last.partition(" with ")[2])
    assert copied[:3] == ["python", "-m", "reid_lab"] and copied[-1] == "ckpt_path=last"
    assert sorted(copied[3:-1]) == sorted(words)


def test_an_embedding_that_is_not_finite_is_named(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RankingEvaluation._embeddings

    def broken(self: RankingEvaluation, gathered: Any, *rest: Any) -> Any:
        gathered["stage2"][0, 0] = torch.nan
        return real(self, gathered, *rest)

    monkeypatch.setattr(RankingEvaluation, "_embeddings", broken)
    with pytest.raises(DivergedError, match=r"stage2: 1 of \d+ embeddings .* not finite"):
        run(composed(*FEW, "model.iterations=1"))
