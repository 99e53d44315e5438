"""Paths of configs, of run folders and of synthetic data sets."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from itertools import count
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reid_lab.config.resume import different_settings
from reid_lab.errors import UserError

LAST = "last"
LONGEST = 200  # bytes of a folder's name; file systems take 255
DEEPEST = 4


def last_checkpoint(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


NAMES = (
    "a folder below runs/ of letters, digits, spaces and signs, each part of at most "
    f"{LONGEST} bytes, no .. and no backslash"
)
NAME_FIX = "name=mine or name=study/mine; hydra.run.dir=... takes any other folder"


def checked_name(name: object) -> str:
    """The name of a run, which is a folder below runs/.

    Raises:
        UserError: the name is not a valid folder below runs/.
    """
    text = str(name)
    if not is_name(text):
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise UserError(f"name={json.dumps(shown)}: {NAMES}\n  fix: {NAME_FIX}")
    return text


def is_name(text: str) -> bool:
    """Whether a run can have this name."""
    parts = text.split("/")
    return (
        all(part not in ("", ".", "..") and len(part.encode()) <= LONGEST for part in parts)
        and text.isprintable()
        and "\\" not in text
        and len(parts) <= DEEPEST
    )


def resumable(name: str) -> list[Path]:
    """The runs of a name that have a checkpoint, the newest first."""
    found = [run for run in (Path("runs") / name).glob("*") if last_checkpoint(run).is_file()]
    return sorted(found, key=lambda run: last_checkpoint(run).stat().st_mtime, reverse=True)


def run_dir(name: str, ckpt_path: str | None, *, _root_: DictConfig) -> str:
    """`runs/<name>/<now>`; with `ckpt_path=last` the newest run of that name and these settings.

    Raises:
        UserError: the name is not a valid folder below runs/.
    """
    name = checked_name(name)
    if ckpt_path == LAST:
        for run in resumable(name):
            if not different_settings(_root_, run):
                return str(run)
    return claimed(f"runs/{name}")


def hydra_dir(name: str, ckpt_path: str | None, *, _root_: DictConfig) -> str:
    """Hydra's folder: a `run_dir` that was given, else that of `run_dir`."""
    if _root_.get("run_dir") and not OmegaConf.is_interpolation(_root_, "run_dir"):
        return str(_root_.run_dir)
    return run_dir(name, ckpt_path, _root_=_root_)


def claimed(parent: str) -> str:
    """`<parent>/<now>`, created here; numbered if another run started in the same second.

    Raises:
        UserError: torchrun or SLURM started several processes for a run, each of which would take a
            separate folder.
    """
    if launcher := started_by():
        raise UserError(
            f"{launcher} started several processes for one run, which share a folder: give it, as "
            f"hydra.run.dir={parent}/mine, on a disk that all machines have"
        )
    now = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    for number in count(1):
        folder = Path(parent, now if number == 1 else f"{now}_{number}")
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    return str(folder)


def started_by() -> str:
    """The launcher of this run's processes, if it is not the run itself; else empty."""
    given = os.environ
    if "TORCHELASTIC_RUN_ID" in given and given.get("WORLD_SIZE", "1") != "1":
        return "torchrun"
    if given.get("SLURM_NTASKS", "1") != "1" and given.get("SLURM_PROCID"):
        return "" if given.get("SLURM_JOB_NAME") in ("bash", "interactive") else "SLURM"
    return "NODE_RANK" if "NODE_RANK" in given and "LOCAL_RANK" not in given else ""


def recipe_id(recipe: DictConfig) -> str:
    """Eight characters that identify a recipe of synthetic people."""
    plain = json.dumps(OmegaConf.to_container(recipe, resolve=True), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:8]


def run_name(*, _root_: DictConfig) -> str:
    """The name of the experiment; without one, `model_dataset`."""
    # a sweep's folder is named when Hydra's own config is not set yet, but still part of this one
    hydra = _root_.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    if hydra is None:
        return "unnamed"  # composed in Python, without a run
    chosen = hydra.runtime.choices
    experiment = chosen.get("experiment")
    if experiment is None:
        return f"{chosen.get('model', 'none')}_{chosen.get('dataset', 'none')}"
    return experiment if isinstance(experiment, str) else "_".join(experiment)


def register_resolvers() -> None:
    """Register the resolvers of conf/; call it before a config is composed."""
    OmegaConf.register_new_resolver("run_dir", hydra_dir, replace=True)  # Hydra calls it once
    OmegaConf.register_new_resolver("claimed", claimed, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("recipe_id", recipe_id, replace=True)
