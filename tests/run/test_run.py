"""Whole runs on the miniature people: what a user does, and what must come out."""

from __future__ import annotations

import csv
import json
import logging
import re
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import SIGTERMException

from reid_lab.budget.exit_calibration import exit_calibration_of
from reid_lab.callbacks import BudgetError
from reid_lab.checkpoint import load_model, read_checkpoint
from reid_lab.config.build import build_data, build_model
from reid_lab.config.check import ConfigError, check_config
from reid_lab.config.choices import conf_dir
from reid_lab.config.from_checkpoint import use_trained_crop, use_trained_size
from reid_lab.config.paths import last_checkpoint
from reid_lab.config.renamed import SWEEPS
from reid_lab.config.settings import Settings, check, check_unused
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.images import decode, resize
from reid_lab.errors import UserError
from reid_lab.files.atomic import write_text
from reid_lab.gallery.embedder import embed
from reid_lab.model import ReidModule
from reid_lab.results import OF_A_TEST
from reid_lab.run.messages import SOURCE, _in_one_line
from reid_lab.run.run import run
from tests.conftest import TINY, Compose, write_jpegs
from tests.recipes import RECIPES, model_of

# on as few people as a test has
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:verification:UserWarning"),
]

MINIATURE = {"_target_": "reid_lab.dataset.read_layout", "_partial_": True, "name": "mini"}
# on any network alike: run with each method whose report is drawn
ALIKE = ("verification", "conditions", "ranked_lists", "attention", "anytime", "stream", "cost")
UNNEEDED = ("cost", "ranked_lists", "attention", "throughput", "verification")
DONE, NOISE = {"total": {"completed": 0}}, torch.get_rng_state()
SIX_STEPS = (*TINY, "model.iterations=6", "trainer.log_every_n_steps=1")


SYNTHETIC = [name for name in RECIPES if name.endswith("_synthetic")]
# of each method one, whose report is drawn
DRAWN = {model_of(name): name for name in (*SYNTHETIC[::-1], "se_small_demo", "demo")}.values()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> dict[int, str]:
    """Step -> loss as logged, over all of the run's attempts."""
    return {
        int(row["step"]): row["train/loss"]
        for version in sorted(folder.glob("logs/version_*/metrics.csv"))
        for row in rows(version)
        if row.get("train/loss")
    }


def scratch(cfg: DictConfig) -> DictConfig:
    """The config without weights to download."""
    for key in cfg:
        if OmegaConf.is_interpolation(cfg, key) or OmegaConf.is_missing(cfg, key):
            continue
        if key == "weights":
            cfg[key] = None
        elif isinstance(cfg[key], DictConfig):
            scratch(cfg[key])
    return cfg


def leave_out(cfg: DictConfig, default: DictConfig) -> None:
    """Leave out the callbacks `ALIKE` where the experiment does not change them."""
    for name in ALIKE:
        own, others = (OmegaConf.to_container(c.callbacks).get(name) for c in (cfg, default))
        if own == others:
            cfg.callbacks[name] = None
    if cfg.callbacks.stream is None:  # which applies what they fit
        cfg.callbacks.exit_thresholds = None


def write_teacher(cfg: DictConfig, path: Path) -> Path:
    """A checkpoint of the student's own network, untrained."""
    cfg = cfg.copy()
    cfg.model = cfg.model.student
    model = build_model(cfg, 8)
    kept = dict(model.hparams)
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": kept}, path)
    return path


def test_a_report_of_every_method_is_drawn() -> None:
    drawn = {model_of(name) for name in DRAWN} | {"se_resnets"}  # its class is that of se_small
    assert drawn == {model_of(name) for name in RECIPES} and len(drawn) > 5


@pytest.mark.recipe
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.report if n in DRAWN else ()) for n in RECIPES]
)
def test_every_experiment_takes_a_step(composed: Compose, name: str) -> None:
    cfg = composed(*RECIPES[name], "trainer.max_steps=1", "trainer.val_check_interval=1")
    cfg.dataset.reader = MINIATURE  # the readers' own tests read their own layouts
    cfg.dataset.transforms.test_views = 1  # ten take ten times as long
    if cfg.dataset.batch_size:
        cfg.dataset.batch_size = 8
    if name not in DRAWN:
        leave_out(cfg, composed())
    scratch(cfg)
    if OmegaConf.is_missing(cfg.model, "teacher"):
        cfg.model.teacher = str(write_teacher(cfg, Path(cfg.run_dir).parent / "teacher.ckpt"))
    metrics = run(cfg)
    assert len(losses(Path(cfg.run_dir))) <= 1
    assert (Path(cfg.run_dir) / "report" / "report.html").is_file() == (name in DRAWN)
    assert any(key.startswith("test/") for key in metrics)


@pytest.mark.recipe
@pytest.mark.parametrize("name", sorted(p.stem for p in (conf_dir() / "sweep").glob("*.yaml")))
def test_every_sweep_names_keys_and_values_that_exist(
    composed: Compose, tmp_path: Path, name: str
) -> None:
    node = OmegaConf.load(conf_dir() / "sweep" / f"{name}.yaml")
    params = OmegaConf.select(node, "hydra.sweeper.params") or {}
    axes = {key: values(str(given)) for key, given in params.items()}
    experiments = axes.pop("+experiment", [])
    text = (conf_dir() / "sweep" / f"{name}.yaml").read_text(encoding="utf-8")
    experiment = SWEEPS.get(name) or re.findall(
        r"^# .* \+experiment=((?:han|jlml|distill|mobilenet025|resnet50)_\w+)", text, re.M
    )
    base: tuple[str, ...] = (f"+experiment={experiment[0]}",) if experiment else TINY
    if name in ("distill_temperature", "distill_rate"):
        base = (*base, "model.teacher=null")
    if experiments:
        base = (f"+experiment={experiments[0]}",)
    if name == "splits":
        people = [f"cam_{c}/{n:03d}_0.bmp" for c in "ab" for n in range(8)]
        base = (*TINY, "dataset=viper", f"dataset.root={write_jpegs(tmp_path / 'viper', people)}")
    cfg = composed(*base)
    if experiment:
        cfg.dataset.reader = MINIATURE
    for key, found in axes.items():
        if (conf_dir() / key).is_dir():
            assert all((conf_dir() / key / f"{choice}.yaml").is_file() for choice in found)
            continue
        for value in found:
            OmegaConf.update(cfg, key, value)
            assert not check_config(cfg, Settings), f"{key}={value}"
    check(cfg)
    assert all((conf_dir() / "experiment" / f"{one}.yaml").is_file() for one in experiments)


def values(given: str) -> list[Any]:
    """Values of a sweep's axis, as Hydra reads it: a list, a range(n), or a single one."""
    axis = OverridesParser.create().parse_override(f"axis={given}")
    return list(axis.sweep_iterator()) if axis.is_sweep_override() else [axis.value()]


def test_post_processing_is_a_choice(composed: Compose) -> None:
    options = ("rerank=[k_reciprocal,query_expansion]", "pca=5", "whiten=true", "query=multi")
    chosen = [f"callbacks.ranking.{option}" for option in options]
    cfg = composed(*SIX_STEPS, *chosen, "callbacks.dimensions.dims=[2,4]")
    metrics = run(cfg)
    results = Path(cfg.run_dir) / "results"
    exits = {row["name"]: row for row in rows(results / "exits.csv")}
    assert {row["dim"] for name, row in exits.items() if name != "hsv_histogram"} == {"5"}
    again = [name for name, row in exits.items() if row["kind"] == "reranked"]
    assert len(again) == 10 and "fusion + k_reciprocal" in again
    assert "test/fusion+k_reciprocal/mAP" in metrics
    summary = json.loads((results / "summary.json").read_text())
    assert summary["protocol"]["query"] == "multi"
    dimensions = rows(results / "dimensions.csv")
    assert [row["dim"] for row in dimensions if row["exit"] == "fusion"] == ["2", "4", "5"]
    last = dimensions[-1]
    assert (last["exit"], last["mAP"]) == ("fusion", exits["fusion"]["mAP"])
    reached = rows(results / "anytime.csv")[-1]
    for end in ("rank1_low", "rank1_high", "mAP_low", "mAP_high"):
        assert last[end] == exits["fusion"][end] == reached[end] != ""
    plain = composed(*SIX_STEPS, "task=test", f"ckpt_path={cfg.run_dir}/checkpoints/last.ckpt")
    run(plain)
    costs = {row["name"]: row for row in rows(results / "exits.csv")}
    assert costs["fusion"]["dim"] == "8"
    more = int(exits["fusion"]["mul_adds"]) - int(costs["fusion"]["mul_adds"])
    assert more == 8 * 5  # the projection's own


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("rerank=bogus", "unknown reranker bogus; available: k_reciprocal, query_expansion"),
        ("pca=9", "must be at most the dimension: stage1 8"),
        ("pca=0", "callbacks.ranking.pca"),
        ("memory=-1", "callbacks.ranking.memory"),
        (
            "memory=1e6 callbacks.ranking.rerank=k_reciprocal",
            r"ranking.memory=1000000.0: give .*6.4",
        ),
        ("query=many", "single"),
        ("rerankers.k_reciprocal.k1=0", "k1"),
    ],
)
def test_a_wrong_option_of_the_ranking_is_told_first(
    composed: Compose, option: str, message: str
) -> None:
    cfg = composed(*SIX_STEPS, *f"callbacks.ranking.{option}".split())
    with pytest.raises(UserError, match=message):
        run(cfg)
    assert not losses(Path(cfg.run_dir))


def test_more_dimensions_than_an_exit_has(composed: Compose) -> None:
    cfg = composed(*SIX_STEPS, "callbacks.dimensions.dims=[4,99]")
    with pytest.raises(UserError, match="at most 8 dimensions"):
        run(cfg)


@pytest.mark.report
def test_a_run_leaves_everything_behind(composed: Compose) -> None:
    cfg = composed(*SIX_STEPS)
    metrics = run(cfg)
    folder = Path(cfg.run_dir)
    exits = {row["name"]: row for row in rows(folder / "results" / "exits.csv")}
    assert list(exits) == ["stage1", "stage2", "stage3", "stage4", "fusion", "hsv_histogram"]
    assert exits["hsv_histogram"]["kind"] == "reference"
    assert metrics["test/fusion/rank1"] == pytest.approx(float(exits["fusion"]["rank1"]))
    costs = [int(exits[name]["mul_adds"]) for name in list(exits)[:5]]
    assert costs == sorted(costs)
    assert {row["policy"] for row in rows(folder / "results" / "stream.csv")} == {
        "random",
        "distance",
        "margin",
        "entropy",
    }
    assert len(rows(folder / "results" / "stream.csv")) == 4 * 8
    assert rows(folder / "results" / "anytime.csv")[-1]["exit"] == "fusion"
    assert {row["exit"] for row in rows(folder / "results" / "camera_pairs.csv")} == {"fusion"}
    for row in exits.values():
        assert float(row["mAP_low"]) <= float(row["mAP"]) <= float(row["mAP_high"])
    summary = json.loads((folder / "results" / "summary.json").read_text())
    assert summary["mul_adds"]["stage1"] == costs[0]
    assert summary["commit"]
    assert torch.load(last_checkpoint(folder), weights_only=True)["global_step"] == 6
    assert "<html" in (folder / "report" / "report.html").read_text()
    assert len(losses(folder)) == 6
    validated = rows(folder / "logs" / "version_0" / "metrics.csv")
    assert any(row.get("val/stage1/mAP") for row in validated)


def test_the_first_step_is_logged_whatever_the_interval(composed: Compose) -> None:
    every, some = composed(*SIX_STEPS, run="every"), composed(*SIX_STEPS, run="some")
    some.trainer.log_every_n_steps = 4
    run(every)
    run(some)
    whole, part = (losses(Path(cfg.run_dir)) for cfg in (every, some))
    assert part == {step: whole[step] for step in (0, 3)}


def test_cost_of_a_view_and_the_number_of_views(composed: Compose) -> None:
    found = []
    for views in (1, 10):
        cfg = composed(*SIX_STEPS, f"dataset.transforms.test_views={views}", run=str(views))
        run(cfg)
        row = rows(Path(cfg.run_dir) / "results/exits.csv")[0]
        found.append((row["mul_adds"], row["views"]))
    assert found == [(found[0][0], "1"), (found[0][0], "10")]


@pytest.mark.parametrize(
    "stop",
    ["trainer.max_steps=2", "trainer.max_steps=8", "trainer.max_steps=10", "+trainer.max_epochs=1"],
)
def test_resumed_equals_uninterrupted(composed: Compose, stop: str) -> None:
    """Mid-epoch and across an epoch's end (epochs have eight batches here)."""
    steps = (*TINY, "model.iterations=12", "trainer.log_every_n_steps=1")
    steps = (*steps, "callbacks.checkpoint.every_n_train_steps=100", "dataset.p=3")
    whole = composed(*steps, run="whole")
    run(whole)
    half = composed(*steps, stop, run="half")
    run(half)
    resumed = composed(*steps, "ckpt_path=last", run="half")
    run(resumed)
    assert len(losses(Path(whole.run_dir))) == 12
    assert losses(Path(resumed.run_dir)) == losses(Path(whole.run_dir))
    one, two = (
        torch.load(last_checkpoint(Path(c.run_dir)), weights_only=True) for c in (whole, resumed)
    )
    assert all(torch.equal(one["state_dict"][k], v) for k, v in two["state_dict"].items())


HELD = (
    *("+experiment=han_synthetic", "model.iterations=6", "trainer.log_every_n_steps=1"),
    *("dataset.p=3", "callbacks.ranking.pca=5", "callbacks.dimensions.dims=[2]"),
    *("dataset.val_identities=2", "callbacks.cost=null", "callbacks.ranked_lists=null"),
)


def test_held_by_the_device_gives_the_same_run(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained in two parts, stopped within an epoch; every file of the results is the same.

    Nor does a run find the images of those before it still in memory.
    """
    built: list[weakref.ref[ReidDataModule]] = []

    def build(cfg: DictConfig) -> ReidDataModule:
        assert not any(earlier() for earlier in built)
        data = build_data(cfg)
        built.append(weakref.ref(data))
        return data

    monkeypatch.setattr("reid_lab.config.settings.build_data", build)
    memory = composed(*HELD, "dataset.cache=memory", run="memory")
    expected = run(memory)
    half = composed(*HELD, "dataset.cache=device", "trainer.max_steps=2", run="device")
    run(half)
    device = composed(*HELD, "dataset.cache=device", "ckpt_path=last", run="device")
    assert run(device) == expected and len(built) == 3
    folders = [Path(cfg.run_dir) for cfg in (memory, device)]
    assert len(losses(folders[0])) == 6 and losses(folders[0]) == losses(folders[1])
    weights = [
        torch.load(last_checkpoint(folder), weights_only=True)["state_dict"] for folder in folders
    ]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    for name in ("exits.csv", "stream.csv", "dimensions.csv", "attention.npz"):
        one, two = ((folder / "results" / name).read_bytes() for folder in folders)
        assert one == two, name


@pytest.mark.gpu
def test_two_steps_on_a_gpu(composed: Compose) -> None:
    precise = ("trainer.precision=bf16-mixed", "channels_last=true", "trainer.accelerator=gpu")
    cfg = composed(*HELD, *precise, "dataset.cache=device", "model.iterations=2")
    metrics = run(cfg)
    assert len(losses(Path(cfg.run_dir))) == 2
    assert all(0 <= value <= 1 for name, value in metrics.items() if name.endswith("mAP"))
    assert torch.cuda.max_memory_allocated() > 0


def test_a_finished_run_is_tested_again_without_training(composed: Compose) -> None:
    cfg = composed(*SIX_STEPS)
    trained = run(cfg)
    again = run(composed(*SIX_STEPS, "task=test", "ckpt_path=last"))
    path = last_checkpoint(Path(cfg.run_dir))
    unused = "dataset.p=500"  # more people than there are: a test draws no batches
    elsewhere = composed(*SIX_STEPS, "task=test", f"ckpt_path={path}", unused, run="b")
    assert run(elsewhere)["test/fusion/mAP"] == again["test/fusion/mAP"]
    assert again["test/fusion/mAP"] == trained["test/fusion/mAP"]


@pytest.mark.report
@pytest.mark.usefixtures("undrawn")
def test_a_checkpoint_is_tested_at_the_size_it_was_trained_at(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in UNNEEDED))
    trained = composed(*few)
    expected = run(trained)
    taller = ["dataset.transforms.height=96", "task=test"]
    again = composed(*few, *taller, f"ckpt_path={last_checkpoint(Path(trained.run_dir))}", run="b")
    assert run(again) == expected
    assert again.dataset.transforms.height == 64
    summary = json.loads((Path(again.run_dir) / "results/summary.json").read_text())
    assert "tested on images of 64x32, as the checkpoint was trained" in summary["notes"][-1]
    page = (Path(again.run_dir) / "report/report.html").read_text()
    assert "the config has 96x32" in page

    path = last_checkpoint(Path(trained.run_dir))
    asked = composed(*few, *taller, f"ckpt_path={path}", run="c")
    note = use_trained_size(
        asked, read_checkpoint(path), ["+experiment=x", "dataset.transforms.height=96"]
    )
    assert asked.dataset.transforms.height == 96
    assert note == "tested on images of 96x32, as given on the command line; trained on 64x32"
    assert use_trained_size(trained, read_checkpoint(path), []) is None


def test_the_centre_is_tested_as_it_was_trained(composed: Compose) -> None:
    few = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in UNNEEDED))
    trained = composed(
        *few, "dataset.transforms.test_crop=centre", "dataset.transforms.enlarge=1.25"
    )
    expected = run(trained)
    path = last_checkpoint(Path(trained.run_dir))
    again = composed(*few, "task=test", f"ckpt_path={path}", run="b")
    assert run(again) == expected
    summary = json.loads((Path(again.run_dir) / "results/summary.json").read_text())
    assert "the centre of images enlarged by 1.25" in summary["notes"][-1]
    asked = composed(*few, "task=test", f"ckpt_path={path}", run="c")
    asked.dataset.transforms.test_crop = "whole"
    note = use_trained_crop(asked, read_checkpoint(path), ["dataset.transforms.test_crop=whole"])
    assert note and asked.dataset.transforms.test_crop == "whole"

    older = composed(*few, "task=test", f"ckpt_path={path}", run="d")
    state = read_checkpoint(path)
    del state["hyper_parameters"][
        "enlarge"
    ]  # trained with test_crop=whole, or before there was a view
    note = use_trained_crop(older, state, [])
    assert note and "whole image, as the checkpoint was trained" in note
    assert older.dataset.transforms.test_crop == "whole"
    asked.dataset.transforms.test_crop = "centre"
    note = use_trained_crop(asked, state, ["dataset.transforms.test_crop=centre"])
    assert note and "trained with test_crop=whole" in note
    assert asked.dataset.transforms.test_crop == "centre"

    data, model = build_data(again), load_model(path)
    data.setup("test")
    (batch,) = [next(iter(data.test_dataloader()))]
    seen = data.on_after_batch_transfer(batch, 0)["image"][:, 0]
    assert (model.image, model.crop) == ((80, 40), (64, 32))
    files = [data.eval_split("test").path(i) for i in range(len(seen))]
    pixels = np.stack([resize(decode(file), *model.image) for file in files])
    assert torch.equal(model.prepared(torch.from_numpy(pixels)), seen)
    with torch.inference_mode():
        wanted = model(seen)
    for name, rows in embed(model, files, batch_size=len(files)).items():
        torch.testing.assert_close(rows, wanted[name])


def test_a_state_that_does_not_fit_is_one_message(composed: Compose, tmp_path: Path) -> None:
    few = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in (*UNNEEDED, "exit_thresholds")))
    cfg = composed(*few, "trainer.max_steps=2")
    run(cfg)
    good = torch.load(last_checkpoint(Path(cfg.run_dir)), weights_only=True)
    moments = {"exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3), "step": torch.zeros(())}
    groups = good["optimizer_states"][0]["param_groups"]
    changes: list[dict[str, Any]] = [
        {"optimizer_states": []},
        {"optimizer_states": [{"state": {0: moments}, "param_groups": groups}]},
        {"pytorch-lightning_version": "text"},
        {"callbacks": dict.fromkeys(good["callbacks"], 3)},
    ]
    for change in changes:
        torch.save({**good, **change}, tmp_path / "bad.ckpt")
        with pytest.raises(UserError, match="bad.ckpt: the training cannot be resumed"):
            run(composed(*few, f"ckpt_path={tmp_path / 'bad.ckpt'}", run="b"))


def content(folder: Path) -> dict[Path, bytes | None]:
    """All files and folders below a folder."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_a_training_replaces_none_of_other_settings(composed: Compose) -> None:
    folder = Path(composed(*TINY).run_dir)
    kept = last_checkpoint(folder)
    write_text(kept, "weights")
    write_text(folder / "config.yaml", OmegaConf.to_yaml(composed(*TINY), resolve=True))
    with pytest.raises(ConfigError, match=f"(?s)this one has seed=0 .here 1.*remove {kept} first"):
        check(composed(*TINY, "seed=1"))
    (problem,) = check_unused(composed(*TINY, "seed=1", "ckpt_path=other.ckpt"))
    assert problem.key == "run_dir"
    for resumed in (f"ckpt_path={kept}", "ckpt_path=last", "task=test"):
        assert not check_unused(composed(*TINY, resumed, "seed=1"))
    assert not check_unused(composed(*TINY))  # again from the start


@pytest.mark.parametrize("wrong", ["callbacks", "optimizer_states"])
def test_a_resume_that_is_refused_changes_no_file(composed: Compose, wrong: str) -> None:
    """Lightning takes the state of the callbacks and the optimisers last."""
    few = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in (*UNNEEDED, "exit_thresholds")))
    cfg = composed(*few, "trainer.max_steps=2")
    run(cfg)
    folder = Path(cfg.run_dir)
    state = torch.load(last_checkpoint(folder), weights_only=True)
    if wrong == "callbacks":
        state["callbacks"] = dict.fromkeys(state["callbacks"], 3)
    else:
        state["optimizer_states"][0]["state"] = {0: 3}
    bad = last_checkpoint(folder).with_name("bad.ckpt")
    torch.save(state, bad)
    before = content(folder)
    with pytest.raises(UserError, match="bad.ckpt: the training cannot be resumed"):
        run(composed(*few, f"ckpt_path={bad}", "model.lr=0.5"))
    assert content(folder) == before
    resumed = composed(*few, f"ckpt_path={last_checkpoint(folder)}")
    run(resumed)
    assert OmegaConf.load(folder / "config.yaml") == OmegaConf.create(
        OmegaConf.to_yaml(resumed, resolve=True)
    )


def test_checkpoints_load_alone_and_safely(composed: Compose) -> None:
    cfg = composed(*SIX_STEPS)
    run(cfg)
    path = last_checkpoint(Path(cfg.run_dir))
    model = load_model(path)
    assert model.exit_names[-1] == "fusion"
    assert model(torch.zeros(1, 3, 64, 32))["fusion"].shape == (1, 8)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="not a checkpoint of reid_lab"):
        load_model(path)


@pytest.mark.parametrize(
    ("task", "other", "told"),
    [
        ("test", (*TINY, "model.dim=16"), "model.dim=8 (here 16)"),
        ("fit", (*TINY[:2], "model=classifier"), 'DaRe" (here "reid_lab.model.Classifier")'),
    ],
)
def test_weights_of_another_network_are_told_before_anything_is_written(
    composed: Compose, tmp_path: Path, task: str, other: tuple[str, ...], told: str
) -> None:
    path = tmp_path / "small.ckpt"
    model = build_model(composed(*TINY), 8)
    loops = {"fit_loop": {"epoch_loop.manual_optimization.optim_step_progress": DONE}}
    trained = {"epoch": 0, "global_step": 0, "loops": loops, "callbacks": {}, "rng_state": NOISE}
    trained |= {"optimizer_states": [], "lr_schedulers": [], "pytorch-lightning_version": "2.6"}
    kept = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save({**kept, **trained}, path)
    cfg = composed(*other, f"task={task}", f"ckpt_path={path}")
    with pytest.raises(UserError, match=re.escape(told)):
        run(cfg)
    assert not Path(cfg.run_dir).exists()


def test_another_optimiser_is_told_before_anything_is_written(composed: Compose) -> None:
    few = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in (*UNNEEDED, "exit_thresholds")))
    few = tuple(key for key in few if "model.hidden" not in key and "model.dim" not in key)
    few = (*few, "model=classifier", "callbacks.stream=null", "callbacks.anytime=null")
    trained = composed(*few, "model.iterations=1", "model.optimiser=amsgrad")
    run(trained)
    path = last_checkpoint(Path(trained.run_dir))
    other = composed(*few, "model.optimiser=sgd", f"ckpt_path={path}", run="b")
    told = "last.ckpt: the training cannot be resumed: it holds the state of Adam (amsgrad), this "
    told += "training has SGD. It was trained with "
    with pytest.raises(UserError, match=re.escape(told)) as error:
        run(other)
    assert 'model.optimiser="amsgrad" (here "sgd")' in str(error.value)
    assert "task=test" in str(error.value)
    assert not Path(other.run_dir).exists()
    run(composed(*few, "model.optimiser=amsgrad", f"ckpt_path={path}", run="c"))


def test_a_test_removes_what_an_earlier_one_left(composed: Compose) -> None:
    few = (*SIX_STEPS, "model.iterations=1", *(f"callbacks.{name}=null" for name in UNNEEDED))
    run(composed(*few, "callbacks.dimensions.dims=[2]"))
    results = Path(composed().run_dir) / "results"
    (results / "search.csv").write_text("of the training\n")
    assert {"dimensions.csv", "stream.csv"} <= {path.name for path in results.iterdir()}
    run(composed(*few, "task=test", "ckpt_path=last", "callbacks.stream=null"))
    left = {path.name for path in results.iterdir()}
    ranked = {"exits.csv", "query_scores.csv", "camera_pairs.csv", "conditions.csv"}
    ranked |= {"anytime.csv", "weights.csv"}
    assert left == {*ranked, "search.csv", "summary.json", "config.yaml"}


def test_every_result_is_known_as_one_of_a_test(composed: Compose) -> None:
    cfg = composed(*SIX_STEPS, "model.iterations=1", "callbacks.dimensions.dims=[2]")
    run(cfg)
    assert {path.name for path in (Path(cfg.run_dir) / "results").iterdir()} <= OF_A_TEST


def test_without_the_ranking_it_is_said_what_else_to_leave_out(composed: Compose) -> None:
    few = (*SIX_STEPS, "model.iterations=1", "callbacks.ranking=null")
    with pytest.raises(
        UserError, match="leave out, too: callbacks.anytime=null callbacks.exit_thresholds=null"
    ) as error:
        run(composed(*few))
    also = str(error.value).rpartition("leave out, too: ")[2].split()
    run(composed(*few, *also))


def test_fitted_thresholds_alone_leave_no_stream_where_none_were_fitted(
    composed: Compose,
) -> None:
    few = (*SIX_STEPS, "model.iterations=1", *(f"callbacks.{name}=null" for name in UNNEEDED))
    cfg = composed(*few, "callbacks.exit_thresholds=null", "callbacks.stream.thresholds=[fitted]")
    with pytest.warns(UserWarning, match="stream: no learned policy and no fitted thresholds"):
        run(cfg)
    assert not (Path(cfg.run_dir) / "results" / "stream.csv").exists()


def test_a_run_that_is_stopped_is_no_success(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise SIGTERMException

    monkeypatch.setattr("reid_lab.run.run.test", stopped)
    with pytest.raises(SystemExit) as end:
        run(composed(*SIX_STEPS, "model.iterations=1"))
    assert end.value.code == 143


def test_held_out_validation_differs_from_the_test(composed: Compose) -> None:
    cfg = composed(*SIX_STEPS, "dataset.val_identities=3")
    metrics = run(cfg)
    logged = rows(Path(cfg.run_dir) / "logs/version_0/metrics.csv")
    val = [float(row["val/fusion/mAP"]) for row in logged if row.get("val/fusion/mAP")]
    assert val[-1] != pytest.approx(metrics["test/fusion/mAP"])


def test_without_validation_nothing_is_ranked_before_the_test(composed: Compose) -> None:
    """A training is resumed, and its best checkpoint is not asked for."""
    given = ("dataset.validate=none", "dataset.val_identities=3", "model.iterations=8")
    few = (*SIX_STEPS, *given, *(f"callbacks.{name}=null" for name in UNNEEDED))
    few = (*few, "trainer.val_check_interval=2")
    run(composed(*few, "trainer.max_steps=5", run="run"))
    cfg = composed(*few, "ckpt_path=last", run="run")
    assert run(cfg)["test/fusion/mAP"] > 0
    for log in Path(cfg.run_dir).glob("logs/*/metrics.csv"):
        assert not [key for row in rows(log) for key in row if key.startswith("val/")]
    assert (Path(cfg.run_dir) / "results" / "exits.csv").is_file()
    state = torch.load(last_checkpoint(Path(cfg.run_dir)), weights_only=True)
    assert state["global_step"] == 8 and exit_calibration_of(state).held_out
    policies = {row["policy"] for row in rows(Path(cfg.run_dir) / "results" / "stream.csv")}
    assert "learned" in policies  # as people are held out


def test_the_test_people_are_validated_on_if_asked_for(composed: Compose) -> None:
    few = (*SIX_STEPS, *(f"callbacks.{name}=null" for name in (*UNNEEDED, "stream")))
    cfg = composed(*few, "dataset.val_identities=3", "dataset.validate=test")
    metrics = run(cfg)
    logged = rows(Path(cfg.run_dir) / "logs/version_0/metrics.csv")
    val = [float(row["val/fusion/mAP"]) for row in logged if row.get("val/fusion/mAP")]
    assert val[-1] == pytest.approx(metrics["test/fusion/mAP"])


def test_everything_wrong_is_told_at_once(composed: Compose) -> None:
    wrong = ("dataset.p=9", "+model.heads=3", "model.lr=fast", "task=train", "seed=1.5")
    cfg = composed(*wrong, "ckpt_path=/nowhere/last.ckpt")
    with pytest.raises(ConfigError) as error:
        run(cfg)
    found = {problem.key for problem in error.value.problems}
    assert found == {"dataset", "model.heads", "model.lr", "task", "seed", "ckpt_path"}
    for fragment in ("2 <= p <= 8", "fit, test", "a number > 0"):
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.root=/nowhere", r"(?s)/nowhere does not exist.*bounding_box_train"),
        ("dataset.k=1", "k >= 2"),
        ("dataset.validate=held_out", "val_identities=0 holds nobody out"),
        ("task=test", "ckpt_path=last"),
        ("ckpt_path=last", r"(?s)existing checkpoint.*last\.ckpt does not exist"),
        ("backbone.weights=/no/file.pth", "^backbone: weights=/no.*allowed are imagenet, null"),
        ("callbacks.stream.exits=[stage1,stage9]", r"stage9; available: stage1, stage2"),
        ("callbacks.stream.exits=[fusion,stage1]", "cheapest first"),
        ("callbacks.stream.budgets=[1e3]", r"cannot be met: the exits cost"),
        ("callbacks.stream.policies=[luck]", "random, geometric, distance"),
        ("callbacks.stream.policies=[]", r"(?s)callbacks\.stream\.policies.*of length >= 1"),
        ("callbacks.stream.thresholds=[]", r"(?s)stream\.thresholds.*of length >= 1"),
        ("callbacks.stream.orders=[]", r"(?s)stream\.orders.*of length >= 1"),
        ("callbacks.stream.budgets=[]", r"(?s)stream\.budgets.*of length >= 1 or null"),
        ("callbacks.anytime.budgets=[]", r"(?s)anytime\.budgets.*of length >= 1 or null"),
        ("threads=0", r"(?s)threads.*an integer >= 1 and <= \d+ or null"),
        ("seed=-1", r"(?s)seed.*an integer >= 0"),
        ("compare=[/nowhere]", r"(?s)compare.*no run folder at /nowhere"),
        ("dataset.transforms.enlarge=0.9", "enlarge"),
    ],
)
def test_bad_input_is_told_before_training(composed: Compose, override: str, message: str) -> None:
    backbone = ["backbone=resnet18"] if "weights" in override else TINY
    cfg = composed(*backbone, override)
    with pytest.raises((ConfigError, BudgetError, ValueError), match=message):
        run(cfg)
    assert not losses(Path(cfg.run_dir))


@pytest.mark.parametrize("task", ["fit", "test"])
def test_a_file_that_is_no_checkpoint_is_told(composed: Compose, tmp_path: Path, task: str) -> None:
    text = tmp_path / "notes.ckpt"
    text.write_text("not weights")
    with pytest.raises(ConfigError, match="notes.ckpt is not a checkpoint of reid_lab"):
        check(composed(*TINY, f"task={task}", f"ckpt_path={text}"))


def test_a_file_that_is_no_image_is_named_before_training(
    composed: Compose, people: Path, tmp_path: Path
) -> None:
    root = tmp_path / "copy"
    for path in people.rglob("*.jpg"):
        target = root / path.relative_to(people)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    broken = sorted((root / "bounding_box_train").iterdir())[3]
    broken.write_text("not found")
    cfg = composed("dataset=folder", *TINY, f"dataset.root={root}")
    with pytest.raises(ValueError, match=re.escape(broken.name)):
        run(cfg)


@pytest.mark.report
@pytest.mark.usefixtures("undrawn")
def test_counts_that_differ_are_a_warning_and_what_only_informs_is_none(
    composed: Compose, people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in people.iterdir():
        (tmp_path / part.name).symlink_to(part)
    query = min((people / "query").iterdir())
    drawn = tmp_path / "gt_bbox" / query.name.replace("_00.jpg", "_77.jpg")
    drawn.parent.mkdir()
    drawn.write_bytes(query.read_bytes())
    options = ("reader.multi_query=true", "val_identities=auto", f"root={tmp_path}")
    chosen = [f"dataset.{option}" for option in options]
    cfg = composed("dataset=market1501", *SIX_STEPS, *chosen, "callbacks.checkpoint=null")
    caplog.set_level(logging.INFO)
    run(cfg)
    levels = {record.getMessage(): record.levelno for record in caplog.records}
    for words, level in (
        ("expected 12,936, found", logging.WARNING),
        ("val_identities=auto", logging.INFO),
        ("no checkpoint is kept", logging.INFO),
        ("multi-query images have no effect", logging.INFO),
    ):
        assert [levels[text] for text in levels if words in text] == [level]
    assert "expected 12,936, found" in (Path(cfg.run_dir) / "report" / "report.html").read_text()


@pytest.mark.report
@pytest.mark.usefixtures("undrawn")
def test_one_camera_trains_and_ranks_and_the_report_says_so(
    composed: Compose, tmp_path: Path
) -> None:
    names = [f"bounding_box_train/000{p}_c1_{i}.jpg" for p in (1, 2, 3) for i in (1, 2)]
    for person in range(4, 9):
        names.append(f"query/000{person}_c1_1.jpg")
        names += [f"bounding_box_test/000{person}_c1_{i}.jpg" for i in (2, 3)]
    root = write_jpegs(tmp_path / "one", names)
    cfg = composed("dataset=folder", *SIX_STEPS, f"dataset.root={root}")
    assert 0 < run(cfg)["test/fusion/mAP"] <= 1
    report = (Path(cfg.run_dir) / "report" / "report.html").read_text()
    assert "all query and gallery images are from camera 1" in report


@pytest.mark.report
@pytest.mark.usefixtures("undrawn")
def test_wandb_gets_tables_plots_and_report_offline(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    log = wandb.Run.log

    def note(self: wandb.Run, data: dict[str, object], *args: object, **kwargs: object) -> None:
        sent.extend(data)
        log(self, data, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(wandb.Run, "log", note)
    run(composed(*SIX_STEPS, "logger=wandb"))
    assert {"tables/exits", "tables/stream", "plots/stream", "report"} <= set(sent)
    assert "train/loss" in sent
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert wandb.run is None  # closed: the next job starts its own


@pytest.mark.parametrize("override", ["trainer.precision=bf16-mixed", "channels_last=false"])
def test_precision_and_memory_format_are_switches(composed: Compose, override: str) -> None:
    cfg = composed(*SIX_STEPS, override)
    assert 0 <= run(cfg)["test/fusion/mAP"] <= 1


@pytest.mark.parametrize(
    "batches", [(*TINY, "dataset.p=2"), (*TINY[:2], "model=classifier", "dataset.batch_size=8")]
)
def test_every_epoch_has_batches_of_its_own(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, batches: tuple[str, ...]
) -> None:
    seen: list[tuple[int, ...]] = []
    take = ReidModule.losses

    def noted(model: ReidModule, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(tuple(batch["index"].tolist()))
        return take(model, batch)

    monkeypatch.setattr(ReidModule, "losses", noted)
    cfg = composed(*batches, "model.iterations=24")  # two epochs and more
    data = build_data(cfg)
    run(cfg)
    epoch = len(data.train_dataloader())
    assert epoch < 12 and seen[:epoch] != seen[epoch : 2 * epoch]
    sampler = data.train_dataloader().batch_sampler
    assert seen == [tuple(index for index, _ in sampler.batch(t)) for t in range(24)]


def test_a_warning_of_ours_is_one_line_and_others_name_their_code() -> None:
    ours = _in_one_line("early exit: too few people", UserWarning, str(SOURCE / "a.py"), 1)
    assert ours == "warning: early exit: too few people\n"
    assert "other.py:1" in _in_one_line("text", UserWarning, "/elsewhere/other.py", 1)
