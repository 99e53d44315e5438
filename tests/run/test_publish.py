"""What W&B is given: types, charts and settings; the dashboard's definition, without a network."""

from __future__ import annotations

import json
import math
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from pytorch_lightning.loggers import WandbLogger

from reid_lab.frontier.points import Point
from reid_lab.report import load_run
from reid_lab.results.rows.budget import STREAM, StreamRow
from reid_lab.run import workspace as dashboard
from reid_lab.run.publish import (
    charts,
    chosen_parts,
    finish_wandb,
    headline,
    log_config,
    wandb_table,
)
from tests.commands import workspace
from tests.frontier.runs import make_run

pytestmark = pytest.mark.system

SPEC = Path(__file__).parents[2] / "docs" / "wandb_workspace.json"
CONFIG = {
    "model": {"_target_": "reid_lab.model.DaRe", "lr": 0.1},
    "backbone": {"_target_": "reid_lab.backbone.SmallResNet"},
    "dataset": {"reader": {"_target_": "reid_lab.dataset.read_cuhk03"}},
    "loss": None,
}


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be made."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(wandb, "Api", refuse)
    monkeypatch.setattr(wandb, "init", refuse)


def test_columns_have_one_type() -> None:
    rows = [
        StreamRow(policy=p, planned=1, realised=2.5, a=math.nan, rank1=1, mAP=0, shares={"x": 1})
        for p in "ab"
    ]
    table = wandb_table(STREAM, rows)
    assert table.columns[:4] == ["policy", "planned", "realised", "a"]
    assert "share_x" in table.columns
    (steered,) = wandb_table(STREAM, [replace(rows[0], thresholds="steered")]).data
    assert steered[0] == "a (steered)"  # a line of its own
    assert table.data[1][:4] == ["b", 1.0, 2.5, None] and isinstance(table.data[1][1], float)


def test_charts_of_the_tables_that_are_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", policies={"margin": [(1e7, 0.5), (2e7, 0.6)]})
    drawn = charts(load_run(run))
    assert set(drawn) == {"charts/exits", "charts/stream"}
    assert drawn["charts/exits"].spec.fields == {"x": "mul_adds", "y": "rank1"}
    assert drawn["charts/stream"].spec.fields == {
        "x": "realised",
        "y": "rank1",
        "stroke": "policy",
    }


def test_the_headline_is_the_best_exit(tmp_path: Path) -> None:
    exits = {"early": (1e7, 0.7), "late": (2e7, 0.7), "worse": (1e6, 0.2)}
    found = headline(load_run(make_run(tmp_path / "a", exits=exits)).exits)
    assert (found["best/exit"], found["best/mul_adds"]) == ("early", 1e7)
    assert (found["best/rank1"], found["best/mAP"]) == pytest.approx((0.7, 0.6))
    assert headline([]) == {}


def test_kinds_name_what_was_chosen() -> None:
    assert chosen_parts(CONFIG) == {"model": "DaRe", "backbone": "SmallResNet", "dataset": "cuhk03"}


def test_wandb_gets_the_whole_config_offline(tmp_path: Path) -> None:
    # wandb reads the environment once in a process, so that `offline` alone may come too late
    logger = WandbLogger(project="test", save_dir=str(tmp_path), offline=True, mode="offline")
    log_config([logger], {**CONFIG, "seed": 3})
    config = dict(logger.experiment.config)
    finish_wandb([logger])
    assert config["seed"] == 3
    assert config["kind"]["model"] == "DaRe"
    assert config["model"]["lr"] == 0.1


@pytest.mark.usefixtures("deaf")
def test_the_workspace_is_the_committed_one(tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    target = tmp_path / "spec.json"
    assert workspace(["someone/reid_lab", "--spec", str(target)]) == 0
    written, kept = (json.loads(path.read_text()) for path in (target, SPEC))
    assert panels(written) == panels(kept)


def test_the_workspace_asks_for_what_runs_log() -> None:
    """The committed definition: what it plots is what `publish` and the trainer name."""
    found = panels(json.loads(SPEC.read_text()))
    parallel = next(p for kind, p in found if kind == "Parallel Coordinates Plot")
    accessors = {column["accessor"] for column in parallel["columns"]}
    assert {"config:kind.value.model", "config:model.value.lr", "summary:best/rank1"} <= accessors
    scatter = next(p for kind, p in found if kind == "Scatter Plot")
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:best/mul_adds", "summary:best/rank1")
    loss = next(p for kind, p in found if "train/loss" in p.get("metrics", []))
    assert loss["xAxis"] == "trainer/global_step"
    table = next(p for kind, p in found if kind == "Vega2")
    assert table["fieldSettings"] == {"x": "mul_adds", "y": "rank1"}


@pytest.mark.usefixtures("deaf")
def test_without_a_network_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces")
    assert workspace(["someone/reid_lab"]) == 1
    assert "does not answer (no network); nothing was sent" in capsys.readouterr().err


def test_a_missing_package_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces", None)
    assert workspace(["someone/reid_lab"]) == 1
    assert "reid-lab[dashboard]" in capsys.readouterr().err


def test_the_frontier_is_a_table_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}
    log = wandb.Run.log

    def note(self: wandb.Run, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        sent.update(data)
        log(self, data, *args, **kwargs)

    monkeypatch.setattr(wandb.Run, "log", note)
    point = Point("people", "a", "exit", "late", 0.5, 0.4, 1e6)
    dashboard.log_frontier([point], tmp_path, None, "test", offline=True)
    assert sent["frontier"].columns[:2] == ["dataset", "method"]
    assert sent["frontier"].get_column("pareto_mul_adds_rank1") == ["yes"]
    assert sent["frontier_mAP"].spec.fields == {"x": "mul_adds", "y": "mAP"}
    assert list(tmp_path.glob("wandb/offline-run-*"))


def panels(spec: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    bank = spec["spec"]["section"]["panelBankConfig"]
    return [(p["viewType"], p["config"]) for s in bank["sections"] for p in s["panels"]]


@pytest.mark.parametrize("content", [b"", b"\0\1", b"a,b\n1\n", b"a,a\n1,2\n", b"name\nx\n"])
def test_a_broken_table_is_one_line(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "f.csv").write_bytes(content)
    words = ["a/b", "--frontier", str(tmp_path / "f.csv"), "--spec", str(tmp_path / "spec.json")]
    assert workspace(words) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "f.csv" in told and told.count("\n") == 1
    assert not (tmp_path / "spec.json").exists()
