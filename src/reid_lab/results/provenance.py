"""Provenance of results: command, commit, machine, versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from reid_lab.files.stored import StoredFileError, read_json
from reid_lab.results import SUMMARY, results_of

TRAINING = "training.json"
PACKAGES = ("reid-lab", "torch", "torchvision", "pytorch-lightning", "numpy")


def provenance() -> dict[str, Any]:
    return {
        "command": shlex.join(["python", "-m", "reid_lab", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
    }


def training_of(run: Path) -> dict[str, Any]:
    """The record of the training in a run's folder; empty if there is none.

    Older runs kept it in the summary until they were tested again.
    """
    record = _read(run / TRAINING)
    summary = {} if record else _read(results_of(run) / SUMMARY)
    kept = ("command", "commit", "machine", "versions", "seed", "elapsed_s")
    old = summary if summary.get("task") == "fit" else {}
    return record or {key: old[key] for key in kept if key in old}


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except StoredFileError:
        return {}


@cache
def commit() -> str:
    """The checkout's commit at the first call, with `+changes` if files differ from it.

    For an installed package: the environment variable `REID_LAB_COMMIT`, as the Docker image sets
    it, or the version.
    """
    try:
        return _git("rev-parse", "--short=12", "HEAD") + (
            "+changes" if _git("diff", "HEAD") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("REID_LAB_COMMIT") or f"version {version('reid-lab')}"


def machine() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU"


def _git(*words: str) -> str:
    here = Path(__file__).parent
    tracked = ["git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name]
    subprocess.run(tracked, check=True, capture_output=True)  # not some other repository's
    done = subprocess.run(["git", "-C", str(here), *words], check=True, capture_output=True)
    return done.stdout.decode().strip()
