"""The config groups and their choices. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PLUS = ("experiment", "sweep")  # groups that the config has no choice of


def conf_dir() -> Path:
    """The Hydra configs: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def groups(more: Sequence[Path] = ()) -> list[str]:
    """The groups, those of other folders with configs included."""
    folders = [conf_dir(), *filter(Path.is_dir, more)]
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})


def choices(group: str, more: Sequence[Path] = ()) -> list[str]:
    """The choices of a config group, without base files, whose names begin with `_`."""
    found = [path for folder in (conf_dir(), *more) for path in (folder / group).glob("[!_]*.yaml")]
    return sorted({path.stem for path in found})


@cache
def default_choices() -> dict[str, str]:
    """Group -> its choice in conf/config.yaml."""
    config: Any = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8"))
    entries = (entry for entry in config["defaults"] if isinstance(entry, dict))
    return {str(group): str(choice) for entry in entries for group, choice in entry.items()}
