"""What a case of the bench is, how it runs, and what makes its end a bad one."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.launcher import Launcher, Running

TIME_LIMIT = 120  # seconds, of commands that take three on an idle core
TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|Exception ignored in|Segmentation fault"
)
Expected = Literal["refused", "done", "either"]

# an experiment that trains a few steps of a small network in two seconds
UNUSED = (
    "cost",
    "ranked_lists",
    "attention",
    "throughput",
    "verification",
    "stream",
    "exit_thresholds",
)
UNUSED += ("conditions",)
DEMO = (
    *("+experiment=demo", "name=case", "dataset=folder", "dataset.root=@people"),
    *("backbone.width=4", "model.hidden=16", "model.dim=8", "model.iterations=2"),
    *("dataset.p=2", "dataset.k=2", "dataset.workers=0", "dataset.cache=none"),
    *("dataset.transforms.height=64", "dataset.transforms.width=32"),
    *("trainer.accelerator=cpu", "trainer.val_check_interval=2", "trainer.log_every_n_steps=1"),
    *("callbacks.progress=null", "callbacks.anytime.points=8", "allocator=default"),
    *(f"callbacks.{name}=null" for name in UNUSED),
)


@dataclass(frozen=True)
class Stage:
    """What cases work on; `@people` in an argument is the path of `people`, and so on."""

    people: Path  # a data set in Market-1501's layout
    run: Path  # a finished run
    checkpoint: Path  # its last.ckpt
    images: Path  # a folder of eight images
    gallery: Path  # of these images
    export: Path

    def fill(self, text: str, work: Path) -> str:
        """`text` with its places; `@work` is the folder in which a case runs."""
        for name in sorted((field.name for field in fields(self)), key=len, reverse=True):
            text = text.replace(f"@{name}", str(getattr(self, name)))
        return text.replace("@work", str(work))


@dataclass(frozen=True)
class Case:
    """One thing that a user could do, or could be given.

    Args:
        prepare: makes files in the folder where it runs.
        check: what is wrong with the files that it left, where it was done.
        says: a pattern that its message must match.
    """

    name: str
    arguments: Sequence[str]
    module: str = "reid_lab"
    expected: Expected = "either"
    prepare: Callable[[Stage, Path], None] | None = None
    check: Callable[[Path], str] | None = None
    says: str = ""

    def __str__(self) -> str:
        return self.name


class Bench:
    """Runs cases, each in folders of its own."""

    def __init__(self, launcher: Launcher, stage: Stage) -> None:
        self.launcher, self.stage = launcher, stage

    def check(self, case: Case, folder: Path) -> None:
        """Fail where the end of `case` is bad."""
        if problems := self.problems(case, folder):
            pytest.fail("\n".join(problems), pytrace=False)

    def problems(self, case: Case, folder: Path) -> list[str]:
        """What is bad about the end of `case`; empty where it is clean."""
        work = places(folder)
        if case.prepare:
            case.prepare(self.stage, work)
        before = outside(folder)
        arguments = [self.stage.fill(word, work) for word in case.arguments]
        running = start(self.launcher, case.module, arguments, folder)
        status = running.wait(TIME_LIMIT)
        found = verdict(running, status, case)
        found += [f"wrote {path} outside of its folder" for path in outside(folder) - before]
        if status == 0 and case.check and (wrong := case.check(work)):
            found.append(wrong)
        return [*found, f"status {status}: {running.text()[-3000:]}"] if found else []


PLACES = {"home": "HOME", "tmp": "TMPDIR", "cache": "REID_LAB_CACHE"}
WORK = Path("deep", "down", "work")  # room for paths that lead upwards


def places(folder: Path) -> Path:
    """Make the folders that a command in `folder` may write to; the one that it is started in."""
    for path in (folder / WORK, *(folder / name for name in PLACES)):
        path.mkdir(parents=True)
    return folder / WORK


def start(
    launcher: Launcher,
    module: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Running:
    """Start a command in the places of `folder`."""
    own = {variable: str(folder / name) for name, variable in PLACES.items()}
    own |= environment or {}
    return launcher.start(module, arguments, folder / WORK, folder / "output", own)


def verdict(running: Running, status: int | None, case: Case) -> list[str]:
    """What is bad about how a process ended."""
    if status is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(30)
        return [f"no end within {TIME_LIMIT} s"]
    found, text = [], running.text()
    if TRACEBACK.search(text):
        found.append("a traceback")
    if status < 0 or status > 128:
        found.append("ended by a signal")
    if status and not text.strip():
        found.append("failed without a word")
    if case.expected == "refused" and status == 0:
        found.append("was not refused")
    if case.expected == "done" and status:
        found.append("was refused")
    if case.says and not re.search(case.says, text):
        found.append(f"does not say {case.says!r}")
    if left := running.left():
        os.killpg(running.pid, signal.SIGKILL)
        found.append(f"left processes behind: {left}")
    return found


def outside(folder: Path) -> set[str]:
    """Files that a case has no business to write: all but those of its own folders."""
    own = [folder / WORK, *(folder / name for name in PLACES)]
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "output")
    return {str(path) for path in paths if not any(path.is_relative_to(o) for o in own)}


def sane_run(work: Path) -> str:
    """What is wrong with a finished run: numbers that are none, in results or weights."""
    found = list(work.rglob("results/summary.json"))
    if not found:
        return "no results/summary.json"
    metrics: Mapping[str, float] = json.loads(found[0].read_text())["metrics"]
    wrong = [f"{name}={value}" for name, value in metrics.items() if not math.isfinite(value)]
    shares = {name: value for name, value in metrics.items() if not name.endswith("/weight")}
    wrong += [f"{name}={value}" for name, value in shares.items() if not 0 <= value <= 1]
    for path in work.rglob("checkpoints/last.ckpt"):
        weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        wrong += [name for name, w in weights.items() if not bool(torch.isfinite(w).all())][:3]
    return f"not finite, or no share: {wrong}" if wrong else ""


def training(overrides: str) -> tuple[str, ...]:
    """The arguments of a short training; a callback that `overrides` name is not left out."""
    words = overrides.split()
    named = {match[1] for match in re.finditer(r"callbacks\.(\w+)", overrides)}
    base = [word for word in DEMO if not (word.endswith("=null") and word[10:-5] in named)]
    return (*base, *words)
