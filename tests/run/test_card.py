"""A run's checkpoints carry a card, and its report shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from reid_lab.backbone import ResNet
from reid_lab.checkpoint import load_model, read_card, read_checkpoint
from reid_lab.config.build import build_model
from reid_lab.config.cards import changed_backbones, give_card
from reid_lab.config.paths import last_checkpoint
from reid_lab.report import load_run, write_report
from reid_lab.results import SUMMARY, results_of
from reid_lab.results.card import UNKNOWN
from reid_lab.run.run import run
from tests.conftest import MINI, Compose

pytestmark = pytest.mark.system
NETWORK = ("backbone=mobilenet", "backbone.alpha=0.25")
ONE = (*NETWORK, "model=classifier", "model.iterations=2", "callbacks.verification=null")


@pytest.mark.usefixtures("undrawn")
def test_a_card_goes_with_the_weights(composed: Compose, tmp_path: Path) -> None:
    run(composed(*ONE, run="first"))
    ours = last_checkpoint(tmp_path / "first")
    card = read_card(ours)
    assert card is not None
    assert (card.recipe, card.pretraining, card.pretraining_licence) == ("test", "none", UNKNOWN)
    assert load_model(ours).card == card
    page = write_report(load_run(tmp_path / "first"), []).read_text(encoding="utf-8")
    assert f"<dt>trained on</dt><dd>{card.data}</dd>" in page

    # a training that starts from it names it; a test of another run keeps the checkpoint's
    second = composed(*ONE, f"backbone.weights={ours}", run="second")
    run(second)
    started = read_card(last_checkpoint(tmp_path / "second"))
    assert started is not None
    assert started.pretraining == f"last.ckpt, trained on {card.data}"
    second.task, second.ckpt_path, second.run_dir = "test", str(ours), str(tmp_path / "third")
    second.backbone.weights = str(tmp_path / "gone.ckpt")  # a checkpoint replaces them
    run(second)
    summary = json.loads((results_of(tmp_path / "third") / SUMMARY).read_text(encoding="utf-8"))
    assert summary["card"] == card.to_dict()

    # a student names its teacher
    words = ("model=distilled", "model@model.student=classifier", f"model.teacher={ours}")
    cfg = composed(*NETWORK, *words, run="taught")
    student = build_model(cfg, 8)
    give_card(student, cfg, "mini", None)
    assert student.card is not None
    assert student.card.pretraining == f"last.ckpt, trained on {card.data}"
    assert student.hparams["card"] == student.card.to_dict()

    # a checkpoint from before there were cards
    state = read_checkpoint(ours)
    del state["hyper_parameters"]["card"]
    torch.save(state, tmp_path / "old.ckpt")
    assert load_model(tmp_path / "old.ckpt").card is None


def test_a_backbone_whose_weights_had_other_settings(composed: Compose, tmp_path: Path) -> None:
    """A converted checkpoint of fast-reid, whose stem and last stride the weights do not show."""
    path = tmp_path / "bot.ckpt"
    kept = {"_target_": "reid_lab.backbone.ResNet", "depth": 18, "stem_pool": "ceil"}
    content = {f"backbone.{k}": v for k, v in ResNet(18).state_dict().items()}
    hparams = {"model": {"backbone": {**kept, "last_stride": 1}}}
    torch.save({"state_dict": content, "hyper_parameters": hparams}, path)
    words = ("backbone=resnet18", f"backbone.weights={path}", "model=bot", "backbone.last_stride=1")
    cfg = composed(*words, "model.centre=0")
    (note,) = changed_backbones(build_model(cfg, 8), cfg)
    assert note.endswith("was trained with backbone.stem_pool=ceil, here it is padded")
    cfg = composed(*words, "model.centre=0", "backbone.stem_pool=ceil")
    assert not changed_backbones(build_model(cfg, 8), cfg)


@pytest.mark.filterwarnings("ignore:verification:UserWarning")
def test_people_are_rendered_before_their_name_is_read(composed: Compose, tmp_path: Path) -> None:
    cfg = composed("backbone=small", "backbone.width=4", "model.hidden=16", "model.iterations=1")
    cfg.dataset.root = str(tmp_path / "new")
    cfg.dataset.recipe = {"_target_": "reid_lab.dataset.synthetic.Recipe", **MINI}
    run(cfg)
    assert read_card(last_checkpoint(Path(cfg.run_dir))).data == "synthetic"
