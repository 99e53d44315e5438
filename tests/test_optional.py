"""What runs without wandb, faiss, botorch and their like, and what says that it needs them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reid_lab
from reid_lab.config.check import ConfigError
from reid_lab.config.settings import check
from reid_lab.dataset.synthetic import Recipe, render
from reid_lab.errors import UserError
from reid_lab.gallery import flat
from reid_lab.gallery.index import INDEX_NAMES, Index, build
from reid_lab.optional import MissingPackageError, load
from tests.absent import without
from tests.commands import cost, doctor, frontier, gallery
from tests.conftest import MINI, SMALL, TINY, Compose
from tests.frontier.runs import make_run
from tests.launcher import Launcher, Starter
from tests.undrawn import UNDRAWN

pytestmark = pytest.mark.system

HEAVY = ("wandb", "faiss", "botorch", "gpytorch")
ABSENT = (*HEAVY, "wandb_workspaces", "linear_operator", "simplejpeg", "h5py")
ABSENT += ("onnx", "onnxscript", "onnxruntime", "pyarrow")
# modules that are imported only where their package has been looked for
LATER = {
    "reid_lab.search.bayes": "botorch",
    "reid_lab.export.files": "onnx",
    "reid_lab.export.graph": "onnx",
    "reid_lab.export.int8": "onnx",
    "reid_lab.export.parts": "onnx",
    "reid_lab.export.script": "onnx",
    "reid_lab.export.tflite": "onnx",
    "reid_lab.export.trace": "onnx",
}
ROOT = Path(reid_lab.__file__).parent
MODULES = sorted(
    ".".join(("reid_lab", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)
IMPORT_ALL = """
import importlib, json, sys, sitecustomize
found = {}
for module in sys.argv[1:]:
    sitecustomize.ASKED.clear()
    try:
        importlib.import_module(module)
        lacks = None
    except ModuleNotFoundError as error:
        lacks = error.name
    found[module] = lacks, sorted(sitecustomize.ASKED)
print(json.dumps(found))
"""
RUN = (
    *SMALL,
    "name=tiny",
    "dataset=folder",
    *TINY,
    "model.iterations=1",
    "dataset.workers=1",
    *(f"callbacks.{name}=null" for name in ("cost", "attention", "ranked_lists")),
)
Missing = Callable[[str], None]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Missing:
    """Makes a package one that cannot be imported."""
    return lambda package: monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str | None, list[str]]]:
    """Module -> the package that its import fails for, and those that it looks for.

    All in one process: what an import has looked for is not looked for by the next.
    """
    command = [sys.executable, "-c", IMPORT_ALL, *MODULES]
    env = without(ABSENT, tmp_path_factory.mktemp("absent"))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("module", MODULES)
def test_no_import_takes_what_only_some_need(
    module: str, imported: dict[str, tuple[str | None, list[str]]]
) -> None:
    lacks, asked = imported[module]
    assert lacks == LATER.get(module)
    assert not {*asked} & {*HEAVY} - {lacks}  # not even where it does without


def test_a_run_is_the_same_without(
    starter: Launcher | Starter, tmp_path: Path, people: Path
) -> None:
    """Fit, test and report, in processes of their own."""
    words = [*RUN, f"dataset.root={people}"]
    with_all, without_some = tmp_path / "with", tmp_path / "without"
    with_all.mkdir()
    process = starter.start("reid_lab", words, with_all, with_all / "printed.txt", UNDRAWN)
    absent = [name for name in ABSENT if name != "simplejpeg"]  # other decoders, other pixels
    env = without(absent, without_some / "site")
    command = [sys.executable, "-m", "reid_lab", *words]
    done = subprocess.run(command, cwd=without_some, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert process.wait(300) == 0, process.text()
    first, second = map(exits_of, (with_all, without_some))
    assert first == second and len(first) > 1


def exits_of(folder: Path) -> list[dict[str, str]]:
    assert list(folder.rglob("report.html"))
    (found,) = folder.rglob("results/exits.csv")
    with found.open(newline="") as file:
        return list(csv.DictReader(file))


def test_costs_and_the_frontier_without(missing: Missing, tmp_path: Path) -> None:
    for package in ABSENT:
        missing(package)
    words = ["model=dare", "backbone=small", "backbone.width=4", "model.dim=8", "model.hidden=16"]
    effort = ["--batch", "1", "--repeats", "1", "--seconds", "0.01", "--csv"]
    assert cost([*words, *effort, str(tmp_path / "cost.csv")]) == 0
    make_run(tmp_path / "runs" / "a")
    assert frontier([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [1, 1 << 26])
def test_flat_search_is_the_same_without_faiss(
    metric: Any, block: int, missing: Missing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat, "BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    far = rng.normal(size=(2500, 6)).astype(np.float32) + 30  # where products round most
    tied = rng.integers(1, 3, (500, 6)).astype(np.float32)
    rows = np.concatenate([far, tied, far[:50]])
    query = np.concatenate([far[:30], tied[:20], rng.normal(size=(9, 6)).astype(np.float32)])
    index: Index = build("flat", rows, metric)
    with_faiss = [index.search(query[:count], k) for count in (0, 1, 59) for k in (1, 40, 9999)]
    missing("faiss")
    alone = [index.search(query[:count], k) for count in (0, 1, 59) for k in (1, 40, 9999)]
    for found, wanted in zip(alone, with_faiss, strict=True):
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("name", INDEX_NAMES)
def test_other_indexes_need_faiss(name: Any, missing: Missing) -> None:
    missing("faiss")
    rows = np.eye(700, 8, dtype=np.float32)
    if name == "flat":
        assert len(build(name, rows)) == 700
        return
    with pytest.raises(MissingPackageError, match=f"index {name} needs faiss.*faiss-cpu"):
        build(name, rows)


@pytest.mark.parametrize(
    ("call", "words", "message"),
    [
        (
            gallery,
            "build --images x --checkpoint missing.ckpt --out x --index hnsw",
            "index hnsw needs faiss",
        ),
        (doctor, "dataset=csv dataset.root=nowhere", "near-duplicates needs faiss"),
    ],
)
def test_commands_say_at_once_what_they_need(
    call: Callable[[list[str]], int],
    words: str,
    message: str,
    missing: Missing,
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing("faiss")
    assert call(words.split()) > 0
    error = capsys.readouterr().err
    assert message in error and "pip install faiss-cpu" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("package", "overrides"),
    [
        ("wandb", ["logger=wandb"]),
        ("botorch", ["model=pla", "callbacks=progressive", "trainer.max_steps=-1"]),
    ],
)
def test_a_run_says_before_it_starts_what_it_needs(
    package: str, overrides: list[str], missing: Missing, composed: Compose
) -> None:
    cfg = composed("backbone=small", *overrides)
    check(cfg)
    missing(package)
    with pytest.raises(ConfigError, match=f"pip install {package}, or leave it out") as caught:
        check(cfg)
    assert len(caught.value.problems) == 1
    if package == "botorch":  # a test searches nothing
        cfg.task = "test"
        with pytest.raises(ConfigError, match="ckpt_path"):
            check(cfg)


def test_nothing_is_rendered_without_its_encoder(missing: Missing, tmp_path: Path) -> None:
    missing("simplejpeg")
    with pytest.raises(UserError, match="rendering a synthetic data set needs simplejpeg"):
        render(tmp_path / "people", Recipe(**MINI), progress=False)
    assert not (tmp_path / "people").exists()


def test_the_name_of_pip_where_it_is_another() -> None:
    with pytest.raises(MissingPackageError, match="this needs no_such, .*: pip install no_such$"):
        load("no_such", "this")
