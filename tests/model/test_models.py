from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_lab.backbone import SmallResNet
from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import Classifier, DaRe, ReidModule, SEResNets
from reid_lab.model.base import Outputs
from reid_lab.model.triplets import SettingError
from tests.conftest import Compose
from tests.methods import trainer

BATCH = {"pid": torch.tensor([1, 1, 2, 2]), "label": torch.tensor([0, 0, 1, 1])}


def dare(**options: object) -> DaRe:
    return DaRe(SmallResNet(4), BatchHardTriplet(), hidden=16, dim=8, **options)  # type: ignore[arg-type]


def ensemble() -> SEResNets:
    return SEResNets({"a": SmallResNet(4), "b": SmallResNet(6)}, BatchHardTriplet(), 16, 8)


def test_fusion_is_the_weighted_sum() -> None:
    model = dare().eval()
    nn.init.normal_(model.fusion.weights)
    exits = model(torch.randn(3, 3, 64, 32))
    expected = sum(w * exits[f"stage{s}"] for s, w in enumerate(model.fusion.weights[:, 0], 1))
    torch.testing.assert_close(exits["fusion"], expected)
    assert model.stream_exits == ("stage1", "stage2", "stage3", "fusion")


def test_weights_of_the_fusion_are_reported() -> None:
    model = dare()
    nn.init.normal_(model.fusion.weights)
    weights = torch.stack(list(model.exit_weights.values()))
    assert list(model.exit_weights) == ["stage1", "stage2", "stage3", "stage4"]
    assert torch.equal(weights, model.fusion.weights[:, 0]) and not weights.requires_grad
    assert ensemble().exit_weights == {}


def test_without_deep_supervision_only_the_fusion_has_a_loss() -> None:
    losses = dare(deep_supervision=False).losses({**BATCH, "image": torch.randn(4, 3, 64, 32)})
    assert tuple(losses) == ("fusion",)


@pytest.mark.parametrize("deep", [True, False])
def test_dare_with_cross_entropy(deep: bool) -> None:
    """0.5 x cross-entropy of smoothed labels, behind a neck, beside each triplet loss."""
    model = dare(deep_supervision=deep, cross_entropy=0.5, smoothing=0.2, identities=3)
    supervised = model.exit_names if deep else ("fusion",)
    images = torch.randn(4, 3, 64, 32)
    exits, logits = model.outputs(images)
    assert tuple(logits) == supervised
    losses = model.objective(Outputs(exits, logits), BATCH)
    for name in supervised:
        rows = exits[name]
        necks = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
        scores = (necks @ model.classifiers[name][1].weight.T).log_softmax(1)  # type: ignore[index]
        target = torch.full((4, 3), 0.2 / 3).scatter_(1, BATCH["label"][:, None], 0.8 + 0.2 / 3)
        expected = -0.5 * (target * scores).sum(1).mean()
        torch.testing.assert_close(losses.pop(f"{name}_cross_entropy"), expected)
    assert tuple(losses) == supervised  # the triplets'
    with pytest.raises(ValueError, match="identities=None"):
        dare(cross_entropy=1)


@pytest.mark.parametrize("model", [dare(), ensemble()], ids=["dare", "se"])
def test_exits_are_lazy(model: ReidModule) -> None:
    ran: list[str] = []
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda *_, name=name: ran.append(name))
    exits = model.eval().exits(torch.randn(1, 3, 64, 32))
    assert not ran
    assert next(exits)[0] == model.exit_names[0]
    first = len(ran)
    list(exits)
    assert 0 < first < len(ran)


def test_views_are_averaged() -> None:
    model = dare().eval()
    views = torch.randn(2, 10, 3, 64, 32)
    together = model.embed(views)["fusion"]
    alone = torch.stack([model(views[:, v])["fusion"] for v in range(10)]).mean(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_schedule_is_equation_4() -> None:
    model = dare(lr=3e-4, iterations=60_000, decay_from=0.5)
    assert model.schedule(0) == (3e-4, 0.9)
    assert model.schedule(30_000) == (3e-4, 0.9)
    lr, beta1 = model.schedule(45_000)
    assert (lr, beta1) == (pytest.approx(3e-4 * 0.001**0.5), 0.5)
    assert model.schedule(60_000) == (pytest.approx(3e-7), 0.5)


def test_the_head_alone_learns_while_the_backbone_is_frozen() -> None:
    torch.manual_seed(0)
    model = Classifier(SmallResNet(4), 2, fc=8, optimiser="amsgrad", frozen=1, iterations=10)
    optimiser = model.configure_optimizers()
    model.log = lambda *_, **__: None  # type: ignore[method-assign]
    batch = {**BATCH, "image": torch.randn(4, 3, 64, 32)}
    for step, changed in ((0, {"pool", "classifier"}), (1, {"backbone", "pool", "classifier"})):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.trainer = trainer(optimizers=[optimiser], global_step=step)
        model.on_train_batch_start(batch, step)
        optimiser.zero_grad()
        sum(model.losses(dict(batch)).values()).backward()  # type: ignore[union-attr]
        model.on_before_optimizer_step(optimiser)
        optimiser.step()
        differ = {n.split(".")[0] for n, v in model.state_dict().items() if not v.equal(before[n])}
        assert differ == changed


def test_classification_takes_the_labels() -> None:
    model = Classifier(SmallResNet(4), identities=2, milestones=[5], iterations=10)
    losses = model.losses({**BATCH, "image": torch.randn(4, 3, 64, 32)})
    losses["cross_entropy"].backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [model.rate(step) for step in (0, 4, 5, 9)] == pytest.approx([0.01, 0.01, 1e-3, 1e-3])
    with pytest.raises(ValueError, match="identities=None"):
        Classifier(SmallResNet(4))


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=dare", "backbone=small"),
        ("model=se_small",),
        ("model=pla", "backbone=small"),
        ("model=han", "model.objective=triplet"),
        ("model=han", "model.objective=both"),
        ("model=distilled", "model@model.student=dare", "model.teacher=null", "backbone=small"),
    ],
    ids=" ".join,
)
def test_triplets_take_pk_batches(composed: Compose, overrides: tuple[str, ...]) -> None:
    cfg = composed(*overrides, "dataset.batch_size=4", "trainer.max_steps=1", "task=test")
    data = build_data(cfg)
    with pytest.raises(SettingError, match=r"batch_size=4: triplets .*=null dataset\.p=2 .*k=2"):
        build_trainer(cfg).fit(build_model(cfg, data.identities), data)


def test_a_training_that_goes_on_takes_its_own_settings(composed: Compose) -> None:
    """As it does its rate: a checkpoint brings the optimiser's moments, not its options."""
    tiny = ("model=han", "model.dim=64", "dataset.batch_size=4", "model.iterations=2")

    def fit(*overrides: str, ckpt: str | None = None) -> list[dict[str, float]]:
        cfg = composed(*tiny, *overrides)
        cfg.callbacks, cfg.trainer.limit_val_batches = None, 0
        trainer, data = build_trainer(cfg), build_data(cfg)
        trainer.fit(build_model(cfg, data.identities), data, ckpt_path=ckpt, weights_only=True)
        trainer.save_checkpoint(path)
        keys = ("lr", "momentum", "weight_decay")
        return [{key: group[key] for key in keys} for group in trainer.optimizers[0].param_groups]

    path = f"{composed(*tiny).run_dir}/a.ckpt"
    fit("trainer.max_steps=1")
    chosen = {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.1}
    options = [f"model.{key}={value}" for key, value in chosen.items()]
    fast, slow = fit(*options, "model.milestones=[]", "model.hard_lr=0.5", ckpt=path)
    assert fast == chosen
    assert slow == {**chosen, "lr": 0.25}
