from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf

from reid_lab.backbone import WeightsError
from reid_lab.callbacks import RankingEvaluation
from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.config.choices import conf_dir
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.model import JLML
from tests.conftest import Compose
from tests.retrieval.people import naive

BATCH = {"image": torch.randn(4, 3, 64, 32), "label": torch.tensor([0, 0, 1, 2])}


def jlml(**options: object) -> JLML:
    return JLML(identities=3, dim=16, **options)  # type: ignore[arg-type]


def test_counts_are_the_readings() -> None:
    model = JLML(751)
    counts = count_exits(model, 224, 224)
    assert round(counts["joint"] / 1e9, 3) == 0.790
    assert [round(c / 1e6, 1) for c in counts.values()] == [524.9, 789.9, 789.9]
    assert exit_dims(model, 64, 32) == {"global": 512, "local": 512, "joint": 1024}
    assert round(sum(p.numel() for p in model.network.parameters()) / 1e6, 2) == 7.79
    assert sum(p.numel() for p in model.classifiers.parameters()) == 2 * 512 * 751


@pytest.mark.parametrize("loss", ["multi", "uni"])
@pytest.mark.parametrize("shared_stem", [True, False])
def test_gradients_reach_every_parameter(loss: str, shared_stem: bool) -> None:
    model = jlml(loss=loss, shared_stem=shared_stem)
    torch.stack(list(model.losses(BATCH).values())).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    ("loss", "supervised"), [("multi", ["global", "local"]), ("uni", ["joint"])]
)
def test_losses_are_equation_5(loss: str, supervised: list[str]) -> None:
    model = jlml(loss=loss, global_sparsity=0.25, local_sparsity=0.5).eval()
    losses, exits = model.losses(BATCH), model(BATCH["image"])
    assert list(losses) == [*supervised, "global_sparsity", "local_sparsity"]
    for name, classifier in zip(supervised, model.classifiers, strict=True):
        scores = exits[name] @ classifier.weight.T
        torch.testing.assert_close(losses[name], F.cross_entropy(scores, BATCH["label"]))
    whole = model.network.global_branch.fc.weight  # (8, 512)
    torch.testing.assert_close(losses["global_sparsity"], 0.25 * whole.norm(dim=0).sum())
    strips = model.network.local_branch.fc.weight.chunk(4, 1)  # (8, 256) each
    squares = sum(strip.abs().sum(1).square().sum() for strip in strips)
    torch.testing.assert_close(losses["local_sparsity"], 0.5 * squares)


@pytest.mark.parametrize("off", ["global_sparsity", "local_sparsity"])
def test_a_penalty_can_be_switched_off(off: str) -> None:
    assert set(jlml().losses(BATCH)) - set(jlml(**{off: 0}).losses(BATCH)) == {off}
    neither = jlml(global_sparsity=0, local_sparsity=0)
    assert set(neither.losses(BATCH)) == {"global", "local"}


def test_joint_is_both_features_as_they_are() -> None:
    exits = jlml().eval()(BATCH["image"])
    assert tuple(exits) == ("global", "local", "joint")
    assert torch.equal(exits["joint"], torch.cat([exits["global"], exits["local"]], 1))
    assert jlml().stream_exits == ("global", "joint")


@pytest.mark.parametrize("shared", [True, False])
def test_the_branches_learn_apart_but_for_a_shared_stem(shared: bool) -> None:
    model = jlml(shared_stem=shared)
    model.losses(BATCH)["global"].backward()
    net = model.network
    assert net.stem[0].weight.grad is not None
    assert all(p.grad is None for p in net.local_branch.parameters())
    assert (net.local_stem is None) == shared
    if net.local_stem is not None:
        assert all(p.grad is None for p in net.local_stem.parameters())
        alone = count_exits(model, 64, 32)
        extra = alone["local"] - count_exits(jlml(), 64, 32)["local"]
        assert extra == 27 * 32 * 32 * 16  # the second conv1


def test_exits_are_lazy() -> None:
    model, ran = jlml(shared_stem=False).eval(), []
    for name in ("global_branch", "local_branch", "local_stem"):
        part = getattr(model.network, name)
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    exits = model.exits(BATCH["image"])
    assert not ran
    assert next(exits)[0] == "global" and ran == ["global_branch"]
    assert next(exits)[0] == "local" and ran == ["global_branch", "local_stem", "local_branch"]


def test_who_trains_must_be_known() -> None:
    with pytest.raises(ValueError, match="identities=None"):
        JLML()


@pytest.mark.parametrize(("fc_std", "penalty"), [(None, 16.4), (0.01, 4.3), (0.001, 0.043)])
def test_the_local_penalty_starts_where_its_layer_does(
    fc_std: float | None, penalty: float
) -> None:
    torch.manual_seed(0)
    model = JLML(2, fc_std=fc_std)
    assert model._penalties()["local_sparsity"].item() == pytest.approx(penalty, rel=0.03)


def test_table_4() -> None:
    model = JLML(2, dim=16)
    rates = [model.rate(step) for step in (0, 19_999, 20_000, 39_999, 40_000, 49_999)]
    assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])


def test_defaults_equal_the_yaml() -> None:
    config = OmegaConf.to_container(OmegaConf.load(conf_dir() / "model" / "jlml.yaml"))
    assert isinstance(config, dict) and config.pop("_target_") == "reid_lab.model.JLML"
    config["milestones"] = tuple(config["milestones"])
    defaults = {n: p.default for n, p in inspect.signature(JLML).parameters.items()}
    assert config == defaults


@pytest.mark.parametrize("whole", [True, False], ids=["checkpoint", "state dict"])
def test_fine_tuning_takes_the_network_and_new_classifiers(tmp_path: Path, whole: bool) -> None:
    trained, path = JLML(5, dim=16), tmp_path / "a.ckpt"
    state = trained.state_dict()
    torch.save({"state_dict": state, "epoch": 3} if whole else state, path)
    tuned = jlml(weights=str(path))
    loaded = tuned.network.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in trained.network.state_dict().items())
    assert tuned.classifiers[0].weight.shape == (3, 8)


@pytest.mark.parametrize(
    ("of", "asked", "what"),
    [
        ({"shared_stem": False}, {}, r"\d unexpected, the first is local_stem"),
        ({}, {"shared_stem": False}, r"\d missing, the first is local_stem"),
        ({"parts": 2}, {}, r"\d+ missing, .*streams\.2.*1 of another size, .*fc\.weight"),
    ],
)
def test_weights_of_another_network(
    tmp_path: Path, of: dict[str, object], asked: dict[str, object], what: str
) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(jlml(**of).state_dict(), path)
    with pytest.raises(WeightsError, match=rf"of another network \({what}.*or null"):
        jlml(weights=str(path), **asked)


def test_weights_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.weights=.*no such file; allowed are null"):
        jlml(weights=str(tmp_path / "none.ckpt"))
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"junk")
    with pytest.raises(WeightsError, match="no state dict"):
        jlml(weights=str(path))
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match=r"missing, the first is stem\.0\.weight"):
        jlml(weights=str(path))


@pytest.mark.filterwarnings("ignore:verification:UserWarning")
def test_l1_ranks_from_end_to_end(composed: Compose) -> None:
    cfg = composed("+experiment=jlml_synthetic", "model.dim=16", "callbacks.ranking.metric=l1")
    cfg.callbacks.verification.exits = ["joint"]
    data, trainer = build_data(cfg), build_trainer(cfg)
    trainer.test(build_model(cfg, data.identities), data, verbose=False)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    (ranking,) = [c for c in callbacks if isinstance(c, RankingEvaluation)]
    assert ranking.evaluation is not None
    e = ranking.evaluation.embeddings
    for name in JLML.exit_names:
        sides = e.exits[name].query.double(), e.exits[name].gallery.double()
        away = (sides[0][:, None] - sides[1][None]).abs().sum(2).numpy()
        expected = naive(away, e.query, e.gallery)["mAP"]
        assert trainer.callback_metrics[f"test/{name}/mAP"] == pytest.approx(expected)
