"""The strong baseline: what learns where, its exits, its schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reid_lab.backbone import SmallResNet
from reid_lab.errors import UserError
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import BagOfTricks
from reid_lab.model.bot import Centres, GeM
from tests.methods import batch

STAGES = ("stage1", "stage2", "stage3", "stage4")


def bot(**options: object) -> BagOfTricks:
    torch.manual_seed(0)
    loss = BatchHardTriplet(0.3)
    return BagOfTricks(SmallResNet(4), loss, **{"identities": 3, **options})  # type: ignore[arg-type]


def test_embeddings_are_behind_the_neck_and_triplets_in_front_of_it() -> None:
    model, images = bot().train(), batch()["image"]
    outputs = model.outputs(images)
    features = outputs.exits["stage4"]
    assert features.shape == (6, 32)  # the stage's channels
    neck = model.necks["stage4"]
    rows = neck(features)
    torch.testing.assert_close(rows.mean(0), torch.zeros(32), atol=1e-5, rtol=0)
    torch.testing.assert_close(model(images)["stage4"], rows)
    logits = rows @ model.classifiers["stage4"].weight.T
    torch.testing.assert_close(outputs.logits["stage4"], logits)
    losses = model.objective(outputs, batch())
    torch.testing.assert_close(losses["stage4_triplet"], model.triplet(features, batch()["pid"]))
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
    torch.testing.assert_close(losses["stage4_cross_entropy"], smooth(logits, batch()["label"]))


def test_embeddings_may_be_those_in_front_of_the_neck() -> None:
    behind, before = bot().eval(), bot(embedding="features").eval()
    images = batch()["image"]
    before.load_state_dict(behind.state_dict())  # a choice of the test, with any weights
    features = before(images)["stage4"]
    torch.testing.assert_close(features, before.outputs(images).exits["stage4"])
    torch.testing.assert_close(behind(images)["stage4"], behind.necks["stage4"](features))


def test_the_neck_has_no_shift() -> None:
    model = bot().train()
    sum(model.losses(batch()).values()).backward()  # type: ignore[union-attr]
    neck = model.necks["stage4"]
    assert neck.bias.grad is None and not neck.bias.any()
    assert neck.weight.grad is not None and neck.weight.grad.any()
    assert model.classifiers["stage4"].bias is None


def test_each_exit_has_a_neck_of_its_own() -> None:
    model = bot(exits=["stage1", "stage3", "stage4"], dim=16)
    assert model.stages == {
        "stage1": ["stage1"],
        "stage3": ["stage2", "stage3"],
        "stage4": ["stage4"],
    }
    exits = model.eval()(batch()["image"])
    assert {name: rows.shape for name, rows in exits.items()} == dict.fromkeys(
        ("stage1", "stage3", "stage4"), (6, 16)
    )
    alone = bot(dim=16).eval()
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if k in alone.state_dict()})
    torch.testing.assert_close(alone(batch()["image"])["stage4"], exits["stage4"])
    kinds = ("cross_entropy", "triplet", "centre")
    expected = {f"{exit}_{kind}" for exit in model.exit_names for kind in kinds}
    assert set(model.train().losses(batch())) == expected


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        (["stage5"], r"exits=\[stage5\]: unknown exit 'stage5'; available: stage1, stage2"),
        (["stage4", "stage2"], "in their order"),
        (["stage2"], "up to the last one; .* backbone.out_indices"),
    ],
)
def test_exits_that_do_not_fit(exits: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bot(exits=exits)


def test_the_rate() -> None:
    model = bot(lr=1.0, warmup=10, epoch=4, milestones=[20, 30], iterations=160)
    rates = [model.rate(step) for step in (0, 20, 39, 40, 79, 80, 119, 120, 159)]
    assert rates == pytest.approx([0.1, 0.55, 0.9775, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert bot(lr=1.0, warmup=0, epoch=None, milestones=[9], iterations=10).rate(0) == 1


def test_the_rate_of_a_cosine() -> None:
    model = bot(lr=1.0, warmup=10, epoch=4, milestones=[20], iterations=160, decay="cosine")
    rates = [model.rate(step) for step in (0, 20, 40, 70, 100, 160, 200)]
    ends = [0.5 + 0.5 * 0.5**0.5, 0.5]  # a quarter and half of the way
    assert rates == pytest.approx([0.1, 0.55, 1.0, *ends, 0.0, 0.0])
    assert bot(lr=1.0, warmup=10, epoch=1, milestones=[], iterations=5, decay="cosine").rate(4) < 1


def test_centres_move_towards_their_images() -> None:
    centres = Centres(3, 2)
    centres.values.zero_()
    features = torch.tensor([[1.0, 0], [3, 0], [0, 6]], requires_grad=True)
    labels = torch.tensor([0, 0, 2])
    loss = centres(features, labels)
    assert loss.item() == pytest.approx((1 + 9 + 36) / 3 / 2)
    loss.backward()
    torch.testing.assert_close(features.grad, features.detach() / 3)
    # Wen et al., equation 4: rate * sum of gaps / (1 + count)
    expected = torch.tensor([[0.5 * 4 / 3, 0], [0, 0], [0, 0.5 * 6 / 2]])
    torch.testing.assert_close(centres.values, expected)
    centres.eval()(features, labels)
    torch.testing.assert_close(centres.values, expected)
    assert not bot(centre=0).centres


def test_gem_lies_between_mean_and_maximum() -> None:
    # a maximum of 0.6 to the power of 200 would be 0 in float32
    maps = torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0)) + 0.5
    torch.testing.assert_close(GeM(1.0)(maps), maps.mean((2, 3)))
    torch.testing.assert_close(GeM(200.0)(maps), maps.amax((2, 3)), atol=0.02, rtol=0)
    model = bot(pool="gem").train()
    sum(model.losses(batch()).values()).backward()  # type: ignore[union-attr]
    assert model.pools["stage4"].p.grad.any()
