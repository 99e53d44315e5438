from __future__ import annotations

import keyword
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.errors import UserError
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import HAN
from tests.conftest import Compose


def han(identities: int | None = 4, **options: object) -> HAN:
    return HAN(identities, BatchHardTriplet(), **options)  # type: ignore[arg-type]


def batch(images: int = 8) -> dict[str, torch.Tensor]:
    label = torch.arange(images) // 2
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(images, 3, 64, 32, generator=generator),
        "label": label,
        "pid": label + 10,
    }


@pytest.mark.parametrize(
    ("options", "global_", "joint"),
    [
        ({"size": "small"}, 134.0, 185.6),
        ({"size": "medium"}, 218.3, 270.0),
        ({"size": "large"}, 302.7, 354.3),
        ({"unit": "inception"}, 415.7, 544.0),  # twice that is table 12's 1.09e9
        ({"unit": "residual"}, 550.2, 668.7),  # and 1.34e9
    ],
    ids=str,
)
def test_counts_of_the_paper(options: dict[str, Any], global_: float, joint: float) -> None:
    counts = count_exits(han(**options), 160, 64)
    assert {name: round(count / 1e6, 1) for name, count in counts.items()} == {
        "global": global_,
        "local": joint,
        "joint": joint,
    }


@pytest.mark.parametrize("dim", [128, 720, 1024])
def test_a_branch_has_half_of_the_dimensions(dim: int) -> None:
    assert exit_dims(han(dim=dim), 64, 32) == {"global": dim // 2, "local": dim // 2, "joint": dim}


def test_joint_is_both_branches_at_length_one() -> None:
    exits = han().eval()(batch()["image"])
    torch.testing.assert_close(exits["joint"], torch.cat([exits["global"], exits["local"]], 1))
    for name in ("global", "local"):
        torch.testing.assert_close(exits[name].norm(dim=1), torch.ones(8))
    assert han().stream_exits == ("global", "joint")


def test_the_local_branch_waits_until_it_is_asked_for() -> None:
    model = han().eval()
    ran: list[int] = []
    for number, level in enumerate(model.network.levels):
        level.local.register_forward_hook(lambda *_, number=number: ran.append(number))
        assert level.hard
        level.hard.register_forward_hook(lambda *_, number=number: ran.append(number))
    exits = model.exits(batch()["image"])
    assert next(exits)[0] == "global"
    assert not ran
    assert next(exits)[0] == "local"
    assert ran == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("unit", ["depthwise", "inception", "residual"])
def test_gradients_reach_every_parameter(unit: str) -> None:
    torch.manual_seed(0)
    model = han(objective="both", unit=unit)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias)  # at zero, the norms behind would hide a norm's scale
    torch.stack(list(model.losses(batch(4)).values())).sum().backward()
    # of one number before a norm of one channel, only the sign has an effect
    scaling = {f"network.levels.{level}.soft.spatial.scale.conv.weight" for level in range(3)}
    missed = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert missed <= scaling


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ("cross_entropy", ["global", "local"]),
        ("triplet", ["global_triplet", "local_triplet"]),
        ("both", ["global", "local", "global_triplet", "local_triplet"]),
    ],
)
def test_objectives(objective: str, names: list[str]) -> None:
    model = han(objective=objective).eval()
    one = batch()
    losses = model.losses(one)
    assert list(losses) == names
    for b, (name, feature) in enumerate(zip(names, model.network(one["image"]), strict=False)):
        if objective != "triplet":
            logits = feature @ model.get_parameter(f"classifiers.{b}.weight").T
            torch.testing.assert_close(losses[name], F.cross_entropy(logits, one["label"]))
        if objective != "cross_entropy":
            expected = BatchHardTriplet()(F.normalize(feature), one["pid"])
            branch = ("global", "local")[b]
            torch.testing.assert_close(losses[f"{branch}_triplet"], expected)


def test_identities_are_needed_where_people_are_classified(composed: Compose) -> None:
    han(None, objective="triplet")
    cfg = composed("model=han")
    with pytest.raises(UserError, match="identities=None"):
        build_model(cfg)
    model = build_model(cfg, identities=7)
    assert isinstance(model, HAN)
    assert model.get_parameter("classifiers.1.weight").shape == (7, 512)


@pytest.mark.parametrize(("optimiser", "lr"), [("sgd", 1e-2), ("amsgrad", 5e-4)])
def test_steps_of_its_recipe_reduce_the_loss(optimiser: str, lr: float) -> None:
    torch.manual_seed(0)
    model, one = han(lr=lr, dim=64, optimiser=optimiser), batch(4)
    update = model.configure_optimizers()
    assert len(update.param_groups) == 2  # of them the regions, with a rate of their own
    values = []
    for _ in range(6):
        loss = torch.stack(list(model.losses(one).values())).sum()
        update.zero_grad()
        loss.backward()
        update.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]


def test_labels_are_smoothed() -> None:
    plain, smooth = han(dim=64), han(dim=64, smoothing=0.1)
    outputs, one = plain.outputs(batch(4)["image"]), batch(4)
    for branch, value in smooth.objective(outputs, one).items():
        logits = outputs.logits[branch].log_softmax(1)
        even = -logits.mean()
        torch.testing.assert_close(value, 0.9 * plain.objective(outputs, one)[branch] + 0.1 * even)


def test_the_rate_falls_after_epochs_100_200_and_250() -> None:
    model = han()
    epochs = [model.rate(404 * epoch) for epoch in (0, 99, 100, 199, 200, 249, 250, 299)]
    expected = [3e-2, 3e-2, 3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5]
    assert epochs == [pytest.approx(rate) for rate in expected]


def test_regions_learn_with_their_share_of_the_rate(composed: Compose) -> None:
    cfg = composed("model=han", "dataset.batch_size=4", "model.iterations=4", "model.dim=64")
    cfg.model.epoch, cfg.model.milestones = None, [1, 2, 3]
    cfg.trainer.val_check_interval = 4
    model = build_model(cfg, build_data(cfg).identities)
    trainer = build_trainer(cfg)
    trainer.fit(model, build_data(cfg))  # ends behind the last milestone
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == [pytest.approx(3e-5), pytest.approx(3e-7)]
    found = {id(p) for p in trainer.optimizers[0].param_groups[1]["params"]}
    assert isinstance(model, HAN)
    assert found == {id(p) for u in model.network.levels if u.hard for p in u.hard.parameters()}


def test_without_regions_nothing_learns_slowly() -> None:
    _, slow = han(hard=False).configure_optimizers().param_groups
    assert not slow["params"]


def test_attention_maps_are_those_of_figure_7() -> None:
    model = han().eval()
    maps = model.attention_maps(torch.rand(2, 3, 160, 64))
    assert [tuple(soft.shape) for soft, _ in maps] == [(2, 40, 16), (2, 20, 8), (2, 10, 4)]
    strips = torch.tensor([[0, t / 4, 1, (t + 1) / 4] for t in range(4)]).expand(2, 4, 4)
    for soft, boxes in maps:
        assert not soft.requires_grad
        assert soft.min() >= 0.5 and soft.max() < 1
        torch.testing.assert_close(boxes, strips)


def test_attention_maps_of_what_is_switched_off() -> None:
    images = torch.rand(2, 3, 64, 32)
    model = han(spatial=False, channel=False, cross_attention=False).eval()
    maps = model.attention_maps(images)
    assert all(bool((soft == 1).all()) for soft, _ in maps)
    assert [len(boxes[0]) for _, boxes in maps] == [4, 0, 0]
    whole, _ = han(spatial=False).eval().attention_maps(images)[0]
    assert whole.shape == (2, 16, 8)
    assert torch.equal(whole, whole[:, :1, :1].expand_as(whole))  # no pixel differs


def test_no_name_of_a_part_is_a_keyword() -> None:
    """`torch.export` writes Python with them."""
    parts = {part for name, _ in han().named_modules() for part in name.split(".")}
    assert not parts & set(keyword.kwlist)


def test_a_state_dict_takes_the_network_along() -> None:
    one, two = han(size="large").eval(), han(size="large").eval()
    assert one.network.levels[0].hard
    nn.init.normal_(one.network.levels[0].hard.fc.weight)
    two.load_state_dict(one.state_dict())
    images = batch()["image"]
    torch.testing.assert_close(one(images), two(images))
