"""An experiment from Python: the config of the command line, in a folder that the caller names."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from reid_lab import run_experiment
from reid_lab.errors import UserError


def test_overrides_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DictConfig] = []

    def run(cfg: DictConfig) -> dict[str, float]:
        seen.append(cfg)
        return {"test/fusion/rank1": 0.5}

    monkeypatch.setattr("reid_lab.run.experiment.run", run)
    folder = tmp_path / 'a "mine", {1}'
    assert run_experiment(["+experiment=demo", "seed=7"], folder) == {"test/fusion/rank1": 0.5}
    (cfg,) = seen
    assert (cfg.run_dir, cfg.seed, cfg.name) == (str(folder), 7, "demo")
    with pytest.raises(UserError, match="lerning"):
        run_experiment(["lerning=1"], folder)
    assert run_experiment("+experiment=demo", folder)  # one override alone
    assert seen[-1].name == "demo"
    with pytest.raises(UserError, match="overrides: 7 is of type int"):
        run_experiment(["seed=7", 7], folder)  # type: ignore[list-item]
