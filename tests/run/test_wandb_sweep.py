"""The sweep of docs/examples/wandb_sweep.yaml: what its agent would run, run once, offline."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import SMALL, TINY
from tests.launcher import Launcher, Starter
from tests.undrawn import UNDRAWN

pytestmark = pytest.mark.system

SWEEP = Path(__file__).parents[2] / "docs" / "examples" / "wandb_sweep.yaml"
DRAWN = {"model.lr": {"value": 0.002}, "loss.margin": {"value": "null"}}


def agent_command(sweep: dict[str, list[str]]) -> list[str]:
    """The command of the sweep as `wandb agent` expands it, for one draw of its parameters."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args  # takes two seconds

    args = create_sweep_command_args({"args": DRAWN})["args_no_hyphens"]
    macros = {"${env}": [], "${interpreter}": [sys.executable], "${args_no_hyphens}": args}
    return [word for part in sweep["command"] for word in macros.get(part, [part])]


def test_the_agent_draws_what_the_sweep_names() -> None:
    assert set(yaml.safe_load(SWEEP.read_text())["parameters"]) == set(DRAWN)


def test_a_run_of_the_agent(starter: Launcher | Starter, tmp_path: Path, people: Path) -> None:
    python, option, module, *words = agent_command(yaml.safe_load(SWEEP.read_text()))
    assert (python, option) == (sys.executable, "-m")
    folder = tmp_path / "run"
    small = [*SMALL, *TINY, f"dataset.root={people}", "~dataset.recipe", "model.iterations=1"]
    small += ["logger.wandb.offline=true", f"hydra.run.dir={folder}"]
    own = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "run1", **UNDRAWN}
    process = starter.start(module, [*words, *small], tmp_path, tmp_path / "printed.txt", own)
    assert process.wait(300) == 0, process.text()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["model"]["lr"], config["loss"]["margin"]) == (0.002, None)
    assert list((folder / "wandb").glob("offline-run-*-run1/*.wandb"))
