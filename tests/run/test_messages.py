"""What a run says: its command, and its notes where nobody configured a log."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning.plugins.environments import TorchElasticEnvironment

from reid_lab.errors import UserError
from reid_lab.run import processes, run
from reid_lab.run.messages import command_of
from reid_lab.run.outcome import Outcome

WORDS = (
    "python -m reid_lab +experiment=demo 'model.exits=[a, b]' hydra.run.dir=runs/x ckpt_path=last"
)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A run of the command line, as Hydra describes it."""
    task = ["+experiment=demo", "model.exits=[a, b]", "ckpt_path=old.ckpt"]
    overrides = SimpleNamespace(task=task, hydra=["hydra.run.dir=runs/x", "hydra.mode=RUN"])
    config = SimpleNamespace(overrides=overrides, mode=RunMode.RUN)
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: config)
    for name in ("SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return config


def test_the_command_is_printed_where_it_is_the_users(
    started: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command_of("ckpt_path=last") == WORDS
    unknown = "the same command and ckpt_path=last"
    assert command_of("ckpt_path=last", machines=2) == unknown
    with monkeypatch.context() as patch:
        patch.setenv("TORCHELASTIC_RUN_ID", "1")  # of torchrun, whose options are not known
        patch.setattr(TorchElasticEnvironment, "detect", lambda: True)
        assert command_of("ckpt_path=last") == unknown
    started.mode = RunMode.MULTIRUN
    assert command_of("ckpt_path=last") == unknown


@pytest.mark.parametrize(("machines", "how"), [(1, WORDS), (2, "the same command and ckpt_path")])
def test_a_lost_process_says_how_to_resume(
    started: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, machines: int, how: str
) -> None:
    launcher = SimpleNamespace(procs=[SimpleNamespace(poll=lambda: -9)], kill=lambda number: None)
    trainer: Any = SimpleNamespace(
        world_size=2, strategy=SimpleNamespace(launcher=launcher), num_nodes=machines
    )
    monkeypatch.setattr(processes, "reports_lost", lambda trainer: True)
    with pytest.raises(UserError) as lost, processes.end_together(trainer):
        raise RuntimeError("gloo")
    assert f"resume with {how}" in str(lost.value)


@pytest.mark.parametrize("configured", [False, True])
def test_notes_are_shown_unless_the_application_does(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    configured: bool,
) -> None:
    def noted(cfg: DictConfig, progress: run.Progress, outcome: Outcome) -> dict[str, float]:
        run.log.info("p=auto")
        run.log.warning("counts differ")
        run.log.debug("not shown")
        return {}

    monkeypatch.setattr(run, "_run", noted)
    ours, others = logging.getLogger("reid_lab"), [logging.NullHandler()] if configured else []
    with monkeypatch.context() as patch:  # pytest has handlers of its own
        patch.setattr(logging.getLogger(), "handlers", others)
        for _ in range(2):  # once each
            assert run.run(DictConfig({})) == {}
    told = "" if configured else "note: p=auto\nwarning: counts differ\n" * 2
    assert capsys.readouterr().err == told
    assert ours.level == logging.NOTSET and not ours.handlers
