"""The top-level keys of a config, and what can be known to be wrong before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from reid_lab.budget.allocator import Allocator
from reid_lab.build import build_data
from reid_lab.checkpoint import check_resumable, read_checkpoint
from reid_lab.config_check import ConfigError, Problem, check_config
from reid_lab.errors import UserError
from reid_lab.paths import LAST, last_checkpoint, resumable
from reid_lab.report import load_run
from reid_lab.resume import differing
from reid_lab.types import Count, Seed


@dataclass
class Settings:
    """The top-level keys of the config: what they mean and what they may be."""

    name: str  # of the experiment; its runs are under runs/<name>/
    task: Literal["fit", "test"]  # fit trains, then tests; test needs a ckpt_path
    seed: Seed
    ckpt_path: str | None  # null, a checkpoint, or last: the newest run that is set up as this
    compile: bool  # torch.compile the stages
    channels_last: bool  # memory format of the network
    matmul_precision: Literal["highest", "high", "medium"]  # high is TF32 on a GPU
    threads: Count | None  # of torch on the CPU; null leaves its own choice
    allocator: Allocator  # glibc's, on the CPU: keep freed memory, or its default
    run_dir: str
    compare: Sequence[str]  # folders of other runs to draw into this one's report
    dataset: Any
    backbone: Any
    loss: Any
    model: Any
    callbacks: Any
    trainer: Any
    logger: Any


def check(cfg: DictConfig) -> None:
    """Everything that can be known to be wrong before anything is built.

    Raises:
        ConfigError: naming all of it.
    """
    problems = check_config(cfg, Settings)
    if not any(problem.key.split(".")[0] == "dataset" for problem in problems):
        problems += check_data(cfg)
    if cfg.get("task") == "test" and not cfg.get("ckpt_path"):
        problems.append(
            Problem(
                "ckpt_path",
                None,
                "with task=test: a checkpoint to test",
                "add ckpt_path=last (the newest run set up so) or ckpt_path=/path/to/last.ckpt",
            )
        )
    if not any(problem.key == "ckpt_path" for problem in problems):
        problems += check_checkpoint(cfg)
    if not any(problem.key.split(".")[0] == "compare" for problem in problems):
        problems += check_compared(cfg)
    if problems:
        raise ConfigError(problems)


def check_data(cfg: DictConfig) -> list[Problem]:
    try:
        data = build_data(cfg)
        data.check()
    except UserError as error:
        return [Problem("dataset", cfg.dataset.root, "a data set to train and rank on", str(error))]
    return []


def check_checkpoint(cfg: DictConfig) -> list[Problem]:
    path = find_checkpoint(cfg)
    if path is None:
        return []
    if cfg.ckpt_path == LAST and (run := newest_run(cfg)) and (settings := differing(cfg, run)):
        allowed = f"a run with these settings; the newest, {run}, has {settings}"
        fix = f"give the same, or ckpt_path={last_checkpoint(run)}"
        return [Problem("ckpt_path", LAST, allowed, fix)]
    if not path.is_file():
        allowed = f"an existing checkpoint; {path} is none"
        fix = f"check the path, or with ckpt_path=last that runs/{cfg.name}/ holds a run"
        return [Problem("ckpt_path", cfg.ckpt_path, allowed, fix)]
    try:
        state = read_checkpoint(path)
        if cfg.task == "fit":
            check_resumable(state, path)
    except UserError as error:
        return [Problem("ckpt_path", cfg.ckpt_path, "a checkpoint of this suite", str(error))]
    return []


def newest_run(cfg: DictConfig) -> Path | None:
    """The run to go on with; where none has these settings, the newest of the name."""
    here = Path(cfg.run_dir)
    found = [here] if last_checkpoint(here).is_file() else resumable(cfg.name)
    return found[0] if found else None


def check_compared(cfg: DictConfig) -> list[Problem]:
    return [problem for folder in cfg.compare for problem in check_finished(folder)]


def check_finished(folder: str) -> list[Problem]:
    try:
        load_run(Path(folder))
    except UserError as error:
        return [Problem("compare", folder, "folders of finished runs", str(error))]
    return []


def find_checkpoint(cfg: DictConfig) -> Path | None:
    """The checkpoint that `ckpt_path` means."""
    if cfg.ckpt_path == LAST:
        return last_checkpoint(Path(cfg.run_dir))
    return None if cfg.ckpt_path is None else Path(cfg.ckpt_path).expanduser()
