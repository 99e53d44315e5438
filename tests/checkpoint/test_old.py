"""Runs of earlier commits: loaded, tested, resumed, a gallery, an export. See old/README.md."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from reid_lab.checkpoint import load_model, read_checkpoint
from reid_lab.config.choices import conf_dir
from reid_lab.config.overrides import current
from reid_lab.config.paths import last_checkpoint, register_resolvers, run_dir
from reid_lab.config.renamed import REMOVED
from reid_lab.config.resume import _settings, differences
from reid_lab.gallery.store import SavedGallery
from reid_lab.run.run import run
from reid_lab.runtime import Model
from tests.commands import export, gallery
from tests.export.conftest import operators_once  # noqa: F401
from tests.methods import compose_once
from tests.recipes import RECIPES

OLD = Path(__file__).parent / "old" / "f7169d7"
REFERENCE = np.load(OLD / "embeddings.npz")
# name -> what its command lacks today: PLA's heads had no batch norm
RUNS = {"dare": (), "pla": ("model.head=bare",), "distilled": ()}
QUIET = ("callbacks.progress=null", "+trainer.enable_progress_bar=false")
UNTESTED = [
    f"callbacks.{name}=null"
    for name in ("anytime", "stream", "verification", "cost", "conditions", "ranked_lists")
]
# what was `random` is now `geometric`
POLICIES = "callbacks.stream.policies=[geometric,distance,margin,entropy,learned]"


def checkpoint(name: str) -> Path:
    (folder,) = (OLD / name).iterdir()
    return last_checkpoint(folder)


def reference(name: str) -> dict[str, np.ndarray]:
    """Exit -> embeddings (N, D) of the pixels, by the code that trained the run."""
    keys = [key for key in REFERENCE if key.startswith(f"{name}/")]
    return {key.partition("/")[2]: REFERENCE[key] for key in keys}


@pytest.fixture
def runs(tmp_path: Path, people: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the old runs, with their people."""
    shutil.copytree(OLD, tmp_path / "runs")
    shutil.copytree(people, tmp_path / "people")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def command(name: str, *more: str) -> DictConfig:
    """The config of the run's own command with more overrides, and its folder."""
    (written,) = Path("runs", name).glob("*/.hydra/overrides.yaml")
    words = current(yaml.safe_load(written.read_text(encoding="utf-8")))
    cfg = compose_once(*words, *QUIET, *RUNS[name], *more, "run_dir=.")
    cfg.run_dir = run_dir(cfg.name, cfg.ckpt_path, _root_=cfg)
    return cfg


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(row: dict[str, str], keys: Any) -> list[float]:
    return [float(row[key]) for key in keys]


def odds_share(a: str) -> float:
    """a / (1 + a), in which `solve_a` searches."""
    return 1 - 1 / (1 + float(a))


@pytest.mark.parametrize("name", RUNS)
def test_embeddings_are_those_of_then(name: str) -> None:
    model = load_model(checkpoint(name))
    assert model.image == (64, 32) and model.crop is None  # the whole image
    with torch.inference_mode():
        exits = model(model.prepared(torch.from_numpy(REFERENCE["pixels"])))
    assert list(exits) == list(reference(name))
    for exit, wanted in reference(name).items():
        assert wanted.std(0).max() > 1e-3  # images differ
        np.testing.assert_allclose(exits[exit], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_a_gallery_is_built_and_searched(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(REFERENCE["pixels"]):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    images, out = str(tmp_path / "images"), str(tmp_path / "g")
    weights = ["--checkpoint", str(checkpoint(name))]
    assert gallery(["build", *weights, "--images", images, "--out", out]) == 0
    saved = SavedGallery.open(out)
    wanted = list(reference(name).values())[-1]
    np.testing.assert_allclose(saved.embeddings, wanted, rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    asked = ["--image", f"{images}/3.png", "--top", "1"]
    assert gallery(["search", out, *weights, *asked]) == 0
    assert capsys.readouterr().out.count("3.png") >= 2  # asked and found


@pytest.mark.system
@pytest.mark.usefixtures("operators_once")
@pytest.mark.parametrize("name", RUNS)
def test_it_is_exported(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(["--checkpoint", str(checkpoint(name)), "--out", str(out)]) == 0
    found = Model(out).embed(REFERENCE["pixels"])
    assert list(found) == list(reference(name))
    for exit, wanted in reference(name).items():
        np.testing.assert_allclose(found[exit], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:verification:UserWarning")
@pytest.mark.parametrize("name", RUNS)
def test_a_test_has_the_numbers_of_then(runs: Path, name: str) -> None:
    cfg = command(name, "task=test", "ckpt_path=last", POLICIES)
    assert Path(cfg.run_dir).parent == Path("runs", name)
    folder = Path(cfg.run_dir, "results")
    then = {path.name: rows(path) for path in folder.glob("*.csv")}
    run(cfg)
    assert cfg.dataset.transforms.test_crop == "whole"
    for wanted, found in zip(then["exits.csv"], rows(folder / "exits.csv"), strict=True):
        keys = wanted.keys() - {"name", "kind"}
        assert (found["name"], found["kind"]) == (wanted["name"], wanted["kind"])
        assert numbers(found, keys) == pytest.approx(numbers(wanted, keys), abs=1e-6)
    if name == "dare":
        now = rows(folder / "stream.csv")
        for wanted, found in zip(then["stream.csv"], now, strict=True):
            assert found["policy"] == wanted["policy"].replace("random", "geometric")
            keys = wanted.keys() - {"policy", "thresholds", "order", "a"}
            assert numbers(found, keys) == pytest.approx(numbers(wanted, keys), abs=1e-6)
            # where all queries take the last exit, `a` is large, and which value is rounding's
            assert odds_share(found["a"]) == pytest.approx(odds_share(wanted["a"]), abs=1e-6)


@pytest.mark.system
@pytest.mark.parametrize("name", RUNS)
def test_its_training_is_resumed(runs: Path, name: str) -> None:
    before = read_checkpoint(checkpoint(name))
    longer = f"trainer.max_steps={before['global_step'] + 2}"
    last = command(name, longer, *UNTESTED, "ckpt_path=last")
    path = last_checkpoint(Path(last.run_dir))
    by_path = command(name, longer, *UNTESTED, f"ckpt_path={path}")
    assert path.is_file() and not last_checkpoint(Path(by_path.run_dir)).exists()
    for cfg in (by_path, last):
        run(cfg)
        after = read_checkpoint(last_checkpoint(Path(cfg.run_dir)))
        assert after["global_step"] == before["global_step"] + 2
        models = [{"model": state["hyper_parameters"]["model"]} for state in (before, after)]
        assert differences(*models) in (
            "",
            "model.identities=null (here 8)",
        )  # DaRe counts people now
        assert "enlarge" not in after["hyper_parameters"]  # it sees the whole image as before
        assert len(after["optimizer_states"][0]["state"]) == len(
            before["optimizer_states"][0]["state"]
        )
        moved = [
            not torch.equal(w, before["state_dict"][n]) for n, w in after["state_dict"].items()
        ]
        assert any(moved)


@pytest.mark.recipe
def test_recipes_find_the_runs_of_then() -> None:
    """`ckpt_path=last`: the same names and settings, but for PLA's, which the changelog names."""
    register_resolvers()
    changed = {}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for name, theirs in json.loads((OLD / "settings.json").read_text(encoding="utf-8")).items():
            recipe = [*RECIPES.get(name, [f"+experiment={name}"])]
            if name in REMOVED["experiment"]:
                recipe.append(f"name={name}")  # as the error says
            words = current([*recipe, "run_dir=.", "dataset.root=.", "seed=0"])
            cfg = compose("config", overrides=words, return_hydra_config=True)
            assert cfg.name == theirs.pop("name")
            if OmegaConf.is_missing(cfg.model, "teacher"):
                cfg.model.teacher = theirs["model"]["teacher"]
            if told := differences(theirs, _settings(cfg)):
                changed[name] = told
    assert changed == {"pla_market": 'model.head="bare" (here "bn")'}
