"""The top-level keys of a config, and all checks before training starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
from annotated_types import MinLen
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from reid_lab.checkpoint import check_resumable, read_checkpoint
from reid_lab.config import nodes
from reid_lab.config.build import build_data
from reid_lab.config.check import ConfigError, check_config
from reid_lab.config.choices import choices, default_choices
from reid_lab.config.dry_run import try_callbacks, try_memory, try_model, try_packages, try_trainer
from reid_lab.config.from_checkpoint import use_trained_network
from reid_lab.config.paths import LAST, NAME_FIX, NAMES, is_name, last_checkpoint, resumable
from reid_lab.config.resume import different_settings
from reid_lab.cost.allocator import Allocator
from reid_lab.dataset import ReidDataModule
from reid_lab.errors import UserError
from reid_lab.files.outputs import check_outside
from reid_lab.files.regular import no_file
from reid_lab.model import ReidModule
from reid_lab.output.words import Problem
from reid_lab.report import load_run
from reid_lab.types import Seed, Threads

SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of a Unix socket's path
Text = Annotated[str, MinLen(1)]


@dataclass
class Settings:
    """The top-level keys of the config.

    Args:
        name: name of the runs, whose folders are `runs/NAME/TIME`. By default that of the
            experiment, or `MODEL_DATASET` without one.
        task: `fit` trains, then tests; `test` needs a `ckpt_path`.
        seed: random seed of the run.
        ckpt_path: checkpoint to resume or to test: a path, or `last`, the newest run of this name
            with these settings. None starts a training.
        compile: torch.compile the stages.
        channels_last: memory format of the network.
        matmul_precision: precision of float32 products; `high` is TF32 on a GPU.
        threads: torch's threads on the CPU; None leaves its own choice.
        allocator: glibc's on the CPU: `keep` freed memory for the next layer, or `default`, which
            returns it to the system.
        run_dir: folder of the run.
        compare: folders of finished runs to draw into this run's report.
        dataset, backbone, loss, model, callbacks, trainer, logger: what the groups choose.
    """

    name: Text
    task: Literal["fit", "test"]
    seed: Seed
    ckpt_path: Text | None
    compile: bool
    channels_last: bool
    matmul_precision: Literal["highest", "high", "medium"]
    threads: Threads | None
    allocator: Allocator
    run_dir: Text
    compare: Sequence[str]
    dataset: ReidDataModule
    backbone: Any  # checked by the model's own parameters
    loss: Any
    model: ReidModule
    callbacks: dict[str, pl.Callback | None] | None
    trainer: pl.Trainer
    logger: dict[str, Logger | None] | None


@dataclass
class Inputs:
    """The inputs of a run: data set, checkpoint with the file's content, and notes."""

    data: ReidDataModule
    checkpoint: Path | None
    state: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)


def check(cfg: DictConfig) -> Inputs:
    """Report all config and data errors before training starts; return the inputs that were read.

    Raises:
        ConfigError: there are errors; all are listed.
    """
    problems = check_settings(cfg)
    raw = OmegaConf.to_container(cfg, resolve=False)

    def valid(*groups: str) -> bool:
        wrong = {key for problem in problems for key in prefixes(problem.key)}
        used = {key for group in groups for key in nodes.written_keys(raw, group.split("."))}
        return not wrong & {*groups, *(used - {"seed"})}  # a wrong seed is replaced

    if valid("name"):
        problems += check_name(cfg)
    data = state = None
    if valid("dataset"):
        found, data = check_data(cfg if valid("seed") else with_valid_seed(cfg))
        problems += found
    if cfg.get("task") == "test" and not cfg.get("ckpt_path"):
        problems.append(
            Problem(
                "ckpt_path",
                cfg.get("ckpt_path"),
                "with task=test: a checkpoint to test",
                "add ckpt_path=last (the newest run with these settings) or "
                "ckpt_path=/path/to/last.ckpt",
            )
        )
    if valid("ckpt_path", "run_dir", "name"):
        found, state = check_checkpoint(cfg)
        problems += found or check_unused(cfg)
    notes: list[str] = []
    if state and cfg.get("task") == "test":
        try:
            notes = [use_trained_network(cfg, state, given_overrides())]
        except UserError as error:
            allowed = "a checkpoint of this suite"
            problems.append(Problem("ckpt_path", cfg.ckpt_path, allowed, str(error)))
    if valid("compare"):
        problems += check_compared(cfg)
    problems += check_built(cfg, data, valid)
    problems += check_sockets(data)
    if not problems:
        problems += check_folders(cfg, data)
    if problems:
        raise ConfigError(problems)
    assert data is not None
    return Inputs(data, find_checkpoint(cfg), state, list(filter(None, notes)))


def given_overrides() -> list[str]:
    """The overrides of the command line; `model` for a config composed in Python, which has one."""
    if not HydraConfig.initialized():
        return ["model"]
    return list(HydraConfig.get().overrides.task)


def with_valid_seed(cfg: DictConfig) -> DictConfig:
    """A copy of the config with a valid seed, to find other errors."""
    copied = cfg.copy()
    copied.seed = 0
    return copied


def check_settings(cfg: DictConfig) -> list[Problem]:
    """Problems of values, by the annotations of the parameters that they are passed to."""
    problems = [_with_choices(problem) for problem in check_config(cfg, Settings)]
    for group in ("dataset", "model", "trainer"):
        node = cfg.get(group)
        if isinstance(node, DictConfig) and node.get("_partial_"):
            key, fix = f"{group}._partial_", f"remove it: ~{group}._partial_"
            problems.append(Problem(key, True, f"no key at all: {group} is built at once", fix))
    return problems


def prefixes(key: str) -> list[str]:
    """`a`, `a.b`, `a.b.c` of `a.b.c`."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _with_choices(problem: Problem) -> Problem:
    """List the choices of a group that is null or not a mapping."""
    group = problem.key
    if group not in default_choices() or group in ("callbacks", "logger"):
        return problem
    names = choices(group)
    fix = f"{group}={default_choices()[group]}, or another of them"
    return replace(problem, allowed=f"one of: {', '.join(names)}", fix=fix)


def check_built(
    cfg: DictConfig, data: ReidDataModule | None, valid: Callable[..., bool]
) -> list[Problem]:
    """Problems that only constructors find; each part is built separately."""
    problems: list[Problem] = []
    model = trainer = None
    has_size = isinstance(cfg.dataset, DictConfig) and "transforms" in cfg.dataset
    if has_size and valid("model", "backbone", "loss", "dataset.transforms"):
        found, model = try_model(cfg, data)
        problems += found
    if valid("trainer", "run_dir"):
        found, trainer = try_trainer(cfg)
        problems += found
    if data and trainer:
        problems += try_memory(cfg, data, model, trainer)
    if valid("callbacks", "run_dir", "seed"):
        problems += try_callbacks(cfg, data, model)
    for group in ("callbacks", "logger"):
        if valid(group, "task"):
            problems += try_packages(cfg, group)
    return problems


def check_name(cfg: DictConfig) -> list[Problem]:
    return [] if is_name(str(cfg.name)) else [Problem("name", cfg.name, NAMES, NAME_FIX)]


def check_folders(cfg: DictConfig, data: ReidDataModule | None) -> list[Problem]:
    """Check all folders that a run writes to; one problem for a folder and those below it."""
    folders = {"run_dir": cfg.run_dir}
    if data and data.cache == "disk" and data.cache_dir:
        folders["dataset.cache_dir"] = data.cache_dir
    if data and data.recipe is not None:
        folders["dataset.root"] = data.root
    if cfg.task == "fit" and cfg.model.get("cache"):
        folders["model.cache"] = cfg.model.cache
    for group in ("callbacks", "logger"):
        for name, node in (cfg[group] or {}).items():
            keys = {"folder", "dirpath", "save_dir"} & {*map(str, node or {})}
            folders |= {f"{group}.{name}.{key}": node[key] for key in keys if node[key]}
    found: list[Problem] = []
    for key, folder in folders.items():
        if any(Path(folder).is_relative_to(str(known.given)) for known in found):
            continue  # such as the checkpoints of the run's folder
        if problem := check_folder(key, str(folder)):
            found.append(problem)
    return found


def check_folder(key: str, path: str) -> Problem | None:
    """Check that a file or folder may and can be created there; nothing is left behind."""
    folder = Path(path).expanduser().absolute()
    try:
        check_outside(folder)
        while not folder.exists():
            folder = folder.parent
        with TemporaryFile(dir=folder):
            return None
    except UserError as error:
        return Problem(key, path, "a folder outside of galleries and exports", str(error))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        fix = f"{key}=/a/folder/of/yours, or free space and rights there"
        return Problem(key, path, f"a folder to write into ({error})", fix)


def check_sockets(data: ReidDataModule | None) -> list[Problem]:
    """Check that the temporary folder's path is short enough for the workers' sockets."""
    folder, room = gettempdir(), SOCKET - len("/pymp-12345678/listener-12345678")
    if data is None or not data.workers or os.name == "nt" or len(os.fsencode(folder)) <= room:
        return []
    allowed = f"0, or a temporary folder whose path has at most {room} bytes; {folder} is longer"
    fix = "dataset.workers=0, or set TMPDIR=/tmp before the command"
    return [Problem("dataset.workers", data.workers, allowed, fix)]


def check_data(cfg: DictConfig) -> tuple[list[Problem], ReidDataModule | None]:
    try:
        data = build_data(cfg)
        data.check(training=cfg.task != "test")
    except UserError as error:
        allowed = "a data set to train and rank on"
        return [Problem("dataset", cfg.dataset.root, allowed, str(error))], None
    return [], data


def check_checkpoint(cfg: DictConfig) -> tuple[list[Problem], dict[str, Any] | None]:
    """Problems of `ckpt_path`, and its content if there are none."""
    path = find_checkpoint(cfg)
    if path is None:
        return [], None
    if problem := check_exists(cfg, path):
        return [problem], None
    try:
        state = read_checkpoint(path)
        if cfg.task == "fit":
            check_resumable(state, path)
    except UserError as error:
        allowed = "a checkpoint of this suite"
        return [Problem("ckpt_path", cfg.ckpt_path, allowed, str(error))], None
    return [], state


def check_unused(cfg: DictConfig) -> list[Problem]:
    """Check that a training does not replace the checkpoints of one with other settings."""
    folder, resumed = Path(cfg.run_dir), find_checkpoint(cfg)
    kept = last_checkpoint(folder)
    if cfg.task != "fit" or not kept.is_file():
        return []
    if resumed and resumed.resolve().parent == kept.resolve().parent:
        return []
    if not (settings := different_settings(cfg, folder)):
        return []
    allowed = f"a folder without the training of other settings; this one has {settings}"
    fix = f"give another folder, or remove {kept} first"
    return [Problem("run_dir", cfg.run_dir, allowed, fix)]


def check_exists(cfg: DictConfig, path: Path) -> Problem | None:
    """Check that `ckpt_path` exists and that `last` is a run with these settings."""
    if (
        cfg.ckpt_path == LAST
        and (run := newest_run(cfg))
        and (settings := different_settings(cfg, run))
    ):
        allowed = f"a run with these settings; the newest, {run}, has {settings}"
        fix = f"give the same, or ckpt_path={last_checkpoint(run)}"
        return Problem("ckpt_path", LAST, allowed, fix)
    if last_checkpoint(path).is_file():
        fix = f"ckpt_path={last_checkpoint(path)}"
        return Problem("ckpt_path", cfg.ckpt_path, "a file; this is a run's folder", fix)
    if not path.is_file():
        allowed = f"an existing checkpoint; {path} {no_file(path)}"
        fix = f"check the path, or with ckpt_path=last that runs/{cfg.name}/ holds a run"
        return Problem("ckpt_path", cfg.ckpt_path, allowed, fix)
    return None


def newest_run(cfg: DictConfig) -> Path | None:
    """The run to resume; the newest of the name if none has these settings."""
    here = Path(cfg.run_dir)
    found = [here] if last_checkpoint(here).is_file() else resumable(cfg.name)
    return found[0] if found else None


def check_compared(cfg: DictConfig) -> list[Problem]:
    """Check that the runs to compare with are finished."""
    return [problem for folder in cfg.compare for problem in check_finished(folder)]


def check_finished(folder: str) -> list[Problem]:
    try:
        load_run(Path(folder))
    except UserError as error:
        return [Problem("compare", folder, "folders of finished runs", str(error))]
    return []


def find_checkpoint(cfg: DictConfig) -> Path | None:
    """The path of `ckpt_path`; None if it is null."""
    if cfg.ckpt_path == LAST:
        return last_checkpoint(Path(cfg.run_dir))
    return None if not cfg.ckpt_path else Path(cfg.ckpt_path).expanduser()
