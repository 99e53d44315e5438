"""`+sweep=transfer`: checkpoints of several networks on several data sets, as a matrix."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reid_lab.checkpoint import CheckpointError
from reid_lab.config.build import build_model, build_trainer
from reid_lab.config.from_checkpoint import use_trained_network
from reid_lab.config.paths import last_checkpoint
from reid_lab.dataset.synthetic import Recipe, render
from reid_lab.files.atomic import write_text
from reid_lab.files.stored import read_config
from reid_lab.frontier.collect import collect
from reid_lab.report.transfer import TransferCell, matrix, transfer_rows, write_transfer
from reid_lab.results.card import ModelCard
from reid_lab.results.rows.multirun import TRANSFER, TransferRow
from reid_lab.run.jobs import Job
from reid_lab.run.multirun import transfer_cells
from reid_lab.run.run import run
from tests.conftest import MINI, SMALL, TINY, Compose
from tests.launcher import Launcher, Starter
from tests.undrawn import UNDRAWN

pytestmark = pytest.mark.system

UNNEEDED = ("cost", "conditions", "ranked_lists", "attention", "throughput", "verification")
UNNEEDED += ("anytime", "exit_thresholds", "stream", "dimensions")
QUICK = tuple(f"callbacks.{name}=null" for name in UNNEEDED)
LEFT_OUT = tuple(f"callbacks.{name}." for name in UNNEEDED)
NETWORKS = {
    "folder": (*TINY, "model.iterations=1"),
    "market1501": ("backbone=small", "backbone.width=8", "model=classifier", "model.iterations=1"),
}


@pytest.mark.system
def test_matrix_of_two_checkpoints_and_two_data_sets(
    composed: Compose, people: Path, tmp_path: Path, starter: Launcher | Starter
) -> None:
    data = tmp_path / "data"
    shutil.copytree(people, data / "folder")
    render(data / "market1501", Recipe(**MINI, seed=7), progress=False)
    own = {}
    for name, network in NETWORKS.items():
        words = (f"dataset={name}", f"dataset.root={data / name}", f"name=on_{name}")
        cfg = composed(*words, *network, *QUICK, run=name)
        metrics = run(cfg)
        own[name] = {key: value for key, value in metrics.items() if key.startswith("test/")}

    paths = {name: str(last_checkpoint(tmp_path / name)) for name in NETWORKS}
    words = (
        "-m",
        "+sweep=transfer",
        f"ckpt_path={','.join(paths.values())}",
        "dataset=folder,market1501",
        f"dataset.root={data}/${{hydra:runtime.choices.dataset}}",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
        *(word for word in SMALL if not word.startswith(("dataset.transforms", *LEFT_OUT))),
        *QUICK,
    )
    process = starter.start("reid_lab", words, tmp_path, tmp_path / "output.txt", UNDRAWN)
    assert process.wait(300) == 0, process.text()

    rows = {row.trained_on: row for row in TRANSFER.read(tmp_path / "sweep/transfer.csv")}
    assert [(name, row.checkpoint) for name, row in rows.items()] == list(paths.items())
    for name, row in rows.items():
        assert set(row.figures) == {f"{t}/{m}" for t in NETWORKS for m in ("rank1", "mAP")}
        last = list(Job.read(tmp_path / name).exits)[-1]
        for metric in ("rank1", "mAP"):
            assert row.figures[f"{name}/{metric}"] == own[name][f"test/{last}/{metric}"]
    pictures = {path.name for path in (tmp_path / "sweep").glob("*.png")}
    assert pictures == {"transfer_rank1.png", "transfer_mAP.png"}
    config = read_config(tmp_path / "sweep/0")
    assert config["backbone"]["width"] == 4 and config["dataset"]["transforms"]["height"] == 64

    methods = {point.method for point in collect([tmp_path / "sweep"]).points}
    assert {"on_folder", "on_folder (trained on folder)", "on_market1501"} <= methods


def job(checkpoint: str, dataset: str, rank1: float, card: ModelCard | None, *given: str) -> Job:
    overrides = dict(word.split("=") for word in (f"ckpt_path={checkpoint}", *given))
    exits: dict[str, dict[str, object]] = {"a": {"rank1": 0.9, "mAP": 0.9}}
    exits["b"] = {"rank1": rank1, "mAP": rank1 / 2}
    return Job(0, Path(checkpoint), overrides, "done", "", exits, 1.0, dataset, card)


def test_rows_and_columns_of_one_name_are_told_apart() -> None:
    osnet, dare = ModelCard(data="x", recipe="osnet"), ModelCard(data="x", recipe="dare")
    jobs = [
        job("1.ckpt", "x", 0.1, osnet),
        job("2.ckpt", "x", 0.2, dare),
        job("3.ckpt", "x", 0.3, dare),
        job("4.ckpt", "x", 0.4, None),
        Job(9, Path("failed"), {"ckpt_path": "5.ckpt"}, "failed", "", {}, ""),
    ]
    cells = transfer_cells(jobs)
    expected = ["x (osnet)", "x (dare) (2.ckpt)", "x (dare) (3.ckpt)", "not known"]
    assert [cell.trained for cell in cells] == expected
    assert [cell.own for cell in cells] == [True, True, True, False]
    one = ModelCard(data="y")
    twice = [
        job("1.ckpt", "folder", 0.1, one, f"dataset.root={root}", "seed=1") for root in ("a", "b")
    ]
    assert [cell.tested for cell in transfer_cells(twice)] == ["folder (root=a)", "folder (root=b)"]
    seeds = [job("1.ckpt", "y", rank1, one, f"seed={rank1}") for rank1 in (0.25, 0.75)]
    assert transfer_rows(transfer_cells(seeds)) == [
        TransferRow(trained_on="y", checkpoint="1.ckpt", figures={"y/rank1": 0.5, "y/mAP": 0.25})
    ]


def test_the_frame_marks_the_recipe_that_was_trained_on(tmp_path: Path) -> None:
    """Two recipes have one name; labels give what differs, and nothing else."""
    card, cells = ModelCard(data="synthetic"), []
    checkpoint = str(tmp_path / "run/checkpoints/last.ckpt")
    for folder, root in (("run", "one"), ("0", "one"), ("1", "two")):
        write_text(tmp_path / folder / "config.yaml", f"dataset: {{root: {root}}}")
    for number in (0, 1):
        words = f"dataset.recipe.seed={number}", "dataset.recipe.cameras=3"
        own = job(checkpoint, "synthetic", 0.5, card, *words)
        cells.append(replace(own, folder=tmp_path / str(number)))
    first, second = transfer_cells(cells)
    assert (first.tested, second.tested) == ("synthetic (seed=0)", "synthetic (seed=1)")
    assert (first.own, second.own) == (True, False)


@pytest.mark.filterwarnings("error")  # of a layout that does not fit
def test_long_labels_fit_the_matrix() -> None:
    path = "/a/long/path/to/runs/osnet/2026-01-01_00-00-00/checkpoints/last.ckpt"
    cell = TransferCell(f"synthetic (osnet) ({path})", f"folder (root={path})", path, 0.5, 0.5)
    figure = matrix([cell], "mAP")
    figure.draw_without_rendering()
    labels = [*figure.axes[0].get_yticklabels(), *figure.axes[0].get_xticklabels()]
    for label in labels:
        box = label.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, label.get_text()
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, label.get_text()


def test_a_matrix_with_gaps_is_drawn_and_removed(tmp_path: Path) -> None:
    x, y = ModelCard(data="x"), ModelCard(data="y")
    cells = transfer_cells([job("1.ckpt", "x", 0.5, x), job("2.ckpt", "y", 1.0, y)])
    written = write_transfer(tmp_path, cells)
    assert [path.name for path in written] == [
        "transfer.csv",
        "transfer_rank1.png",
        "transfer_mAP.png",
    ]
    assert set(tmp_path.iterdir()) == set(written)
    texts = {text.get_text() for text in matrix(cells, "rank1").axes[0].texts}
    assert texts == {"50.0", "100.0"}
    assert len(matrix(cells, "rank1").axes[0].patches) == 2  # both are tested on their own data
    assert write_transfer(tmp_path, []) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ([], True),
        (["task=test", "dataset=folder", "trainer.devices=1"], True),
        (["backbone.width=8"], False),
        (["+experiment=demo"], False),
        (["model@model.student=classifier"], False),
        (["~loss"], False),
    ],
)
def test_network_of_the_checkpoint_unless_one_is_given(
    composed: Compose, given: list[str], taken: bool
) -> None:
    cfg = composed("task=test")
    trained = composed(*TINY)
    model = build_model(trained, 8)
    card = ModelCard(data="x", recipe="tiny").to_dict()
    state = {"hyper_parameters": {**model.hparams, "card": card}}
    before = cfg.copy()
    note = use_trained_network(cfg, state, given)
    if not taken:
        assert (note, cfg) == ("", before)
        return
    assert "reid_lab.model.DaRe" in note
    assert (cfg.backbone.width, cfg.model.backbone.width, cfg.name) == (4, 4, "tiny")
    assert build_model(cfg, 8).hparams["model"] == model.hparams["model"]
    use_trained_network(named := composed("task=test"), state, ["name=mine"])
    assert named.name == "test"


def test_a_converted_network_has_no_length(composed: Compose) -> None:
    """Its config says nothing of a training, and is tested all the same."""
    trained = composed(*TINY[:2], "model=classifier")
    kept = {"_target_": "reid_lab.model.Classifier", "identities": 8}
    kept["backbone"] = {"_target_": trained.backbone._target_, "width": 4}
    cfg = composed("task=test")
    use_trained_network(cfg, {"hyper_parameters": {"model": kept}}, [])
    assert build_trainer(cfg).max_steps == 0


def test_a_checkpoint_may_not_name_any_class(composed: Compose) -> None:
    state = {"hyper_parameters": {"model": {"_target_": "os.system", "command": "true"}}}
    cfg = composed("task=test")
    with pytest.raises(CheckpointError, match=r"os\.system.* is not a class"):
        use_trained_network(cfg, state, [])
    assert cfg.model._target_ == "reid_lab.model.DaRe"
