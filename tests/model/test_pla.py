from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from reid_lab.backbone import ResNet, SmallResNet
from reid_lab.callbacks import ProgressiveSearch
from reid_lab.checkpoint import load_model
from reid_lab.config.build import build_model
from reid_lab.config.choices import conf_dir
from reid_lab.config.from_checkpoint import use_trained_network
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.loss import generalised_batch_hard
from reid_lab.model import PLA
from reid_lab.model.pla import check_hardness
from reid_lab.model.triplets import SettingError
from reid_lab.search import Setting
from tests.methods import composed, config

PIDS = torch.tensor([5, 5, 5, 8, 8, 8])
BATCH = {"image": torch.randn(6, 3, 64, 32), "pid": PIDS, "label": torch.tensor([0] * 3 + [1] * 3)}


def pla(**options: Any) -> PLA:
    return PLA(SmallResNet(4), identities=2, **{"dim": 16, **options})


@pytest.mark.parametrize(("stride", "giga"), [(1, 4.057), (2, 2.673)])
def test_counts_are_the_readings(stride: Any, giga: float) -> None:
    model = PLA(ResNet(50, last_stride=stride), identities=751)
    assert round(count_exits(model, 256, 128)["embedding"] / 1e9, 3) == giga
    parts = [*model.backbone.parameters(), *model.heads.parameters()]
    assert round(sum(p.numel() for p in parts) / 1e6, 1) == 27.7
    assert exit_dims(model, 64, 32) == {"embedding": 2048}


@pytest.mark.parametrize("depth", [18, 50])
def test_last_stride_changes_the_maps_alone(depth: Any) -> None:
    coarse, fine = ResNet(depth), ResNet(depth, last_stride=1)
    fine.load_state_dict(coarse.state_dict())
    images = torch.randn(1, 3, 64, 32)
    assert coarse(images).shape[-2:] == (2, 1)
    assert fine(images).shape[-2:] == (4, 2)


HEADS = ["bare", "bn", "bn_relu", "neck"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("objective", ["both", "triplet", "cross_entropy"])
def test_no_head_is_left_unused(objective: Any, head: Any) -> None:
    model = pla(objective=objective, head=head)
    losses = model.losses(BATCH)
    assert tuple(sorted(losses)) == (
        ("cross_entropy", "triplet") if objective == "both" else (objective,)
    )
    torch.stack(list(losses.values())).sum().backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert not [name for name, grad in trained.items() if grad is None or not grad.any()]
    assert model(BATCH["image"])["embedding"].shape == (6, 16)


@pytest.mark.parametrize("head", HEADS)
def test_norms_of_a_head(head: Any) -> None:
    """In training, each unit of a normalised head has mean 0 and variance 1 over the batch."""
    model = pla(head=head)
    with torch.no_grad():
        parts = model.outputs(BATCH["image"]).exits["embedding"].chunk(2, 1)
    linear = model.heads["cross_entropy"]
    rows = (linear if head == "bare" else linear[0])(model.pool(model.backbone(BATCH["image"])))
    unit = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    expected = {"bare": rows, "bn": unit, "bn_relu": unit.relu(), "neck": unit}[head]
    torch.testing.assert_close(parts[1], expected.detach(), atol=1e-4, rtol=1e-3)
    assert bool(torch.allclose(parts[0].mean(0), torch.zeros(8), atol=1e-4)) == (head == "bn")
    assert (model.classifier.bias is None) == (head == "neck")


def test_pools() -> None:
    maps = torch.randn(2, 3, 4, 5)
    top, mean = maps.amax((2, 3)), maps.mean((2, 3))
    for pool, expected in {"max": top, "avg": mean, "both": top + mean}.items():
        torch.testing.assert_close(pla(pool=pool).pool(maps), expected)


def test_a_checkpoint_from_before_there_were_heads(tmp_path: Path) -> None:
    """It has a bare one; one that states its head has that."""
    config = {"_target_": "reid_lab.model.PLA", "identities": 2, "dim": 16}
    config["backbone"] = {"_target_": "reid_lab.backbone.SmallResNet", "width": 4}
    for number, (model, stated) in enumerate([(pla(head="bare"), {}), (pla(), {"head": "bn"})]):
        kept = {"model": {**config, **stated}, "image": [64, 32]}
        path = tmp_path / f"{number}.ckpt"
        torch.save({"state_dict": model.state_dict(), "hyper_parameters": kept}, path)
        found, images = load_model(path), BATCH["image"]
        torch.testing.assert_close(found(images), model.eval()(images), atol=0, rtol=0)
        cfg = composed("task=test")
        use_trained_network(cfg, torch.load(path), [])
        built = build_model(cfg, 2)
        built.load_state_dict(model.state_dict())
        assert built.hparams["model"]["head"] == ("bn" if stated else "bare")


def test_a_config_without_a_head_is_kept_with_the_default() -> None:
    cfg = config("pla")
    del cfg.model.head
    assert build_model(cfg, 2).hparams["model"]["head"] == "bn"


def test_losses_are_equation_5() -> None:
    model = pla(head="bare", triplet_weight=0.7, margin=0.1, k=2, p=3).eval()
    maps = model.backbone(BATCH["image"]).amax((2, 3))  # global max pooling
    triplet, classes = model.heads["triplet"](maps), model.heads["cross_entropy"](maps)
    torch.testing.assert_close(model(BATCH["image"])["embedding"], torch.cat([triplet, classes], 1))
    losses = model.losses(BATCH)
    expected = 0.7 * generalised_batch_hard(triplet, PIDS, 2, 3, 0.1)
    torch.testing.assert_close(losses["triplet"], expected)
    expected = F.cross_entropy(model.classifier(classes), BATCH["label"])
    torch.testing.assert_close(losses["cross_entropy"], expected)


def test_schedule_is_equation_10_from_the_start_of_a_phase() -> None:
    model, alpha = pla(iterations=10), 3e-4
    model.begin(Setting(0.5, -0.1, 2, 3), start=100, length=300)
    assert (model.triplet_weight, model.loss.margin, model.loss.k, model.loss.p) == (
        0.5,
        -0.1,
        2,
        3,
    )
    for e in (0, 150, 200, 299):
        rate = alpha if e <= 150 else alpha * 0.001 ** ((e - 150) / (300 - 150))
        beta = 0.9 if e <= 150 else 0.5
        assert model.schedule(100 + e) == (pytest.approx(rate), beta)


def test_holistic_k_takes_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = pla(k=[3, 2, 1], iterations=9), []
    for step in range(10):
        monkeypatch.setattr(PLA, "global_step", step)
        model.losses(BATCH)
        seen.append(model.loss.k)
    assert seen == [3, 3, 3, 2, 2, 2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dim": 15}, "dim=15"), ({"k": []}, r"k=\[\]"), ({"identities": None}, "identities=None")],
)
def test_what_cannot_be_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PLA(SmallResNet(4), **{"identities": 2, "dim": 16, **options})


def test_triplets_alone_need_no_identities() -> None:
    assert not hasattr(PLA(SmallResNet(4), objective="triplet"), "classifier")


@pytest.mark.parametrize(
    ("k", "p", "message"),
    [
        (5, 1, r"model\.k=5, but a person has dataset\.k=4 images"),
        (4, 13, r"model\.p=13, but an anchor has 12 negatives"),
    ],
)
def test_triplets_that_batches_do_not_hold(k: int, p: int, message: str) -> None:
    data: Any = SimpleNamespace(p=4, k=4)
    with pytest.raises(SettingError, match=message):
        check_hardness("model", k, p, data)
    check_hardness("model", 4, 12, data)


@pytest.mark.parametrize(
    ("file", "key", "target"),
    [("model/pla", None, PLA), ("callbacks/progressive", "progressive", ProgressiveSearch)],
)
def test_the_yaml_is_the_paper(file: str, key: str | None, target: Any) -> None:
    raw = OmegaConf.load(conf_dir() / Path(f"{file}.yaml"))
    config = OmegaConf.to_container(raw[key] if key else raw, resolve=False)
    assert isinstance(config, dict)
    parameters = inspect.signature(target).parameters
    own = {k: v for k, v in config.items() if k != "_target_" and "${" not in str(v)}
    assert set(config) - {"_target_"} == set(parameters)
    for name, value in own.items():
        value = tuple(value) if isinstance(value, list) else value
        assert value == parameters[name].default, name
