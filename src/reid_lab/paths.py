"""Where things are: the configs, a run's folder, the data sets that we make."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

LAST = "last"


def conf_dir() -> Path:
    """The Hydra configs: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def last_checkpoint(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def run_dir(name: str, ckpt_path: str | None) -> str:
    """`runs/<name>/<now>`; with `ckpt_path=last` the newest run of that name that has one."""
    runs = Path("runs") / name
    if ckpt_path == LAST:
        resumable = [run for run in runs.glob("*") if last_checkpoint(run).is_file()]
        if resumable:
            return str(max(resumable, key=lambda run: last_checkpoint(run).stat().st_mtime))
    return str(runs / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")


def recipe_id(recipe: DictConfig) -> str:
    """Eight letters that tell recipes of synthetic people apart."""
    plain = json.dumps(OmegaConf.to_container(recipe, resolve=True), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:8]


def choice(group: str, *, _root_: DictConfig) -> str:
    """What was chosen of a group, such as `dare` of model."""
    # a sweep's folder is named when Hydra's own config is not set yet, but still part of this one
    hydra = _root_.get("hydra") or HydraConfig.get()
    return str(hydra.runtime.choices[group])


def register_resolvers() -> None:
    """Make the above usable in YAML; call it before a config is composed."""
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("choice", choice, replace=True)
    OmegaConf.register_new_resolver("recipe_id", recipe_id, replace=True)
