"""A miniature data set of synthetic people, and configs composed as the command line would."""

from __future__ import annotations

import gc
import logging
import os
import random
import runpy
import stat
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.launcher import Launcher, Parent, Starter

# torch and what imports it are imported where they are used: xdist's first process, for which
# the others wait, runs no tests
if TYPE_CHECKING:
    from omegaconf import DictConfig

# xdist's processes share the cores: threads on top of that wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a synthetic data set's recipe
MINI: dict[str, Any] = {
    "train_identities": 8,
    "test_identities": 6,
    "cameras": 3,
    "images_per_camera": 2,
    "distractors": 4,
    "junk": 3,
    "height": 64,
    "width": 32,
}
# overrides that make any experiment small enough for one CPU step
SMALL = (
    "dataset.p=2",
    "dataset.k=2",
    "dataset.workers=0",
    "dataset.transforms.height=64",
    "dataset.transforms.width=32",
    "dataset.cache=none",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.val_check_interval=6",
    "callbacks.progress=null",
    "callbacks.ranking.pca=null",
    "callbacks.anytime.points=8",
    "callbacks.stream.points=8",
    "callbacks.cost.batch=1",
    "callbacks.cost.repeats=1",
    "callbacks.cost.seconds=0.01",
    "allocator=default",
    "+trainer.enable_progress_bar=false",
)
# DaRe on the smallest backbone
TINY = ("backbone=small", "backbone.width=4", "model.hidden=16", "model.dim=8")
PLACES = ("run_dir=.", "dataset.root=.")
Compose = Callable[..., "DictConfig"]


# runs flush every file to the disk, which takes a fifth of their time: tests look at it by `disk`
os.fsync = lambda descriptor: None


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What is flushed and renamed, in that order: "file", "folder" or "rename", inode, bytes.

    The bytes are those that the file had then, so that a file is written before it is flushed.
    """
    done: list[tuple[str, int, int]] = []
    replace = Path.replace

    def flushed(descriptor: int) -> None:
        found = os.fstat(descriptor)
        what = "folder" if stat.S_ISDIR(found.st_mode) else "file"
        done.append((what, found.st_ino, found.st_size if what == "file" else 0))

    def renamed(path: Path, target: Path) -> Path:
        found = path.stat()
        done.append(("rename", found.st_ino, found.st_size))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    return done


def pytest_collection_finish() -> None:
    """Take what is imported out of garbage collection, which every run starts with."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_sessionfinish() -> None:
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no process ends long after the others."""
    import torch

    items.sort(key=lambda item: -sum(mark in item.keywords for mark in ("system", "recipe")))
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of docs/conf.py, with a stand-in for Sphinx, which the tests do not need."""
    application = ModuleType("sphinx.application")
    application.Sphinx = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sphinx.application", application)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return runpy.run_path(str(Path(__file__).parents[1] / "docs" / "conf.py"))


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No test depends on those before it, by random numbers or by the command line of a run."""
    import torch
    from hydra.core.hydra_config import HydraConfig

    torch.manual_seed(0)
    random.seed(0)
    yield
    HydraConfig.instance().cfg = None


@pytest.fixture(autouse=True)
def without_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process write no report, unless a test is marked `report`."""
    runs = sys.modules.get("reid_lab.run.run")  # a test that needs it has imported it
    if runs is None or request.node.get_closest_marker("report"):
        return

    def path_only(finished: Any, *_: object) -> Path:
        return Path(finished.folder) / "report" / "report.html"

    monkeypatch.setattr(runs, "write_report", path_only)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have pictures of eight pixels; what draws them is tested where this is not used."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from tests.undrawn import print_png

    monkeypatch.setattr(FigureCanvasAgg, "print_png", print_png)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Counts the graphs that `compile=true` makes, whose operations run as they are."""
    import torch
    from torch._dynamo.testing import CompileCounterWithBackend
    from torch._dynamo.utils import counters

    config, counter = torch._dynamo.config, CompileCounterWithBackend("eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    # pytest would keep its records, of megabytes
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)
    counters.clear()
    with config.patch(recompile_limit=config.recompile_limit):  # set back afterwards
        yield counter
    torch.compiler.reset()


@cache
def parent() -> Parent:
    """The parent of the commands of all of xdist's processes, in the first of them."""
    return Parent(environment())


def environment() -> dict[str, str]:
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return {**os.environ, **one_thread, "COLUMNS": "160"}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: what a process is told as it starts."""
    if sys.platform.startswith("linux"):
        node.workerinput["parent"] = parent().address


def pytest_unconfigure() -> None:
    if parent.cache_info().currsize:
        parent().close()


@pytest.fixture(scope="session")
def starter(pytestconfig: pytest.Config) -> Iterator[Launcher | Starter]:
    """Starts commands in processes of their own."""
    if not sys.platform.startswith("linux"):
        yield Starter(environment())
        return
    given = getattr(pytestconfig, "workerinput", {})
    launcher = Launcher(given["parent"] if given else parent().address)
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people to train on, six to find, in Market-1501's layout."""
    from reid_lab.dataset.synthetic import Recipe, render

    return render(tmp_path_factory.mktemp("people") / "mini", Recipe(**MINI), progress=False)


@pytest.fixture
def composed(tmp_path: Path, people: Path) -> Compose:
    """Overrides -> the config, on the miniature people, running in `tmp_path`."""
    from tests.methods import compose_once

    def make(*overrides: str, run: str = "run", small: bool = True) -> DictConfig:
        cfg = compose_once("name=test", *(SMALL if small else ()), *PLACES, *overrides)
        if cfg.run_dir == ".":
            cfg.run_dir = str(tmp_path / run)
        if cfg.dataset.root == ".":
            cfg.dataset.root = str(people)
        if "recipe" in cfg.dataset:
            cfg.dataset.recipe = None  # they are rendered already
        return cfg

    return make


def write_jpegs(root: Path, names: list[str], size: tuple[int, int] = (16, 8)) -> Path:
    """Small images of noise under these names, each its own."""
    import numpy as np
    import simplejpeg

    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=90, colorspace="RGB"))
    return root
