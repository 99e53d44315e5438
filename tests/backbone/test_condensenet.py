from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.backbone import CondenseNet
from reid_lab.backbone.condensenet import LearnedGroupConv
from reid_lab.cost.memory import measure_memory
from reid_lab.cost.mul_adds import count_exits
from reid_lab.model import Classifier

INPUTS, OUTPUTS, GROUPS, CONDENSE, ITERATIONS = 16, 8, 4, 4, 60


def layer() -> LearnedGroupConv:
    torch.manual_seed(0)
    conv = LearnedGroupConv(INPUTS, OUTPUTS, GROUPS, CONDENSE, ITERATIONS)
    torch.nn.init.normal_(conv.weight)
    return conv


def images() -> Tensor:
    return torch.randn(2, INPUTS, 3, 2, generator=torch.Generator().manual_seed(1))


def trained(conv: LearnedGroupConv, batches: int) -> LearnedGroupConv:
    """Weights change with the number of the batch, so that a drop at another time is seen."""
    conv.train()
    for _ in range(batches):
        generator = torch.Generator().manual_seed(int(conv.batches))
        conv.weight.data += 0.1 * torch.randn(conv.weight.shape, generator=generator)
        conv(images())
    return conv


def test_a_quarter_is_dropped_at_a_sixth_of_the_training_each() -> None:
    conv, kept = layer(), []
    for _ in range(ITERATIONS + 20):
        trained(conv, 1)
        kept.append(conv.kept.sum(1).tolist())
    # before batch 10, 20 and 30 of 60
    expected = [16] * 10 + [12] * 10 + [8] * 10 + [4] * 50
    assert kept == [[count] * GROUPS for count in expected]


def test_the_smallest_sums_of_absolute_weights_are_dropped() -> None:
    conv = trained(layer(), 10)
    assert conv.kept.all()
    conv(images())
    sizes = conv.weight.detach()[:, :, 0, 0].abs()
    for group in range(GROUPS):
        sums = sizes[group::GROUPS].sum(0)
        dropped = sums[~conv.kept[group]]
        assert len(dropped) == INPUTS // CONDENSE
        assert dropped.max() < sums[conv.kept[group]].min()


@torch.no_grad()
def test_a_group_convolution_is_the_masked_one() -> None:
    conv = trained(layer(), ITERATIONS)
    masked = conv.weight.clone()
    for j in range(OUTPUTS):
        masked[j, ~conv.kept[j % GROUPS]] = 0
    expected = F.conv2d(images(), masked)
    torch.testing.assert_close(conv(images()), expected)
    torch.testing.assert_close(conv.eval()(images()), expected)


@torch.no_grad()
def test_evaluation_before_the_last_drop_is_of_the_condensed_layer() -> None:
    conv = trained(layer(), 15)
    now = conv.eval()(images())
    conv.train()
    while conv.kept[0].sum() > INPUTS // CONDENSE:
        conv(images())  # weights stay as they are
    torch.testing.assert_close(conv(images()), now)


@pytest.mark.parametrize("batches", [5, 10, 25, 45])
def test_a_training_that_is_resumed_drops_the_same(batches: int) -> None:
    whole = trained(layer(), ITERATIONS)
    before, after = trained(layer(), batches), layer()
    after.load_state_dict(before.state_dict())
    trained(after, ITERATIONS - batches)
    for name, value in whole.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    assert after.lasso() == 0


def test_weights_that_are_loaded_in_evaluation_choose_their_own_inputs() -> None:
    source, other = trained(layer(), ITERATIONS).eval(), layer().eval()
    other.load_state_dict(source.state_dict())
    assert torch.equal(other(images()), source(images()))


def test_the_lasso_is_of_groups_and_inputs() -> None:
    conv = trained(layer(), 25)
    rows = conv.weight.detach()[:, :, 0, 0]
    norms = [rows[g::GROUPS, i].norm() for g in range(GROUPS) for i in range(INPUTS)]
    kept = conv.kept.flatten()
    expected = torch.stack(norms)[kept].sum() + 1e-3 * (~kept).sum()  # the floor, a constant
    torch.testing.assert_close(conv.lasso(), expected)
    conv.lasso().backward()
    assert conv.weight.grad is not None
    assert bool((conv.weight.grad[::GROUPS, ~conv.kept[0]] == 0).all())
    assert trained(conv, ITERATIONS).lasso() == 0


def test_the_lasso_is_added_to_a_methods_losses() -> None:
    batch = {"image": torch.randn(2, 3, 64, 32), "label": torch.tensor([0, 1])}
    for weight in (0.0, 1e-3):
        torch.manual_seed(0)
        network = CondenseNet(dropout=0, lasso=weight, iterations=10)
        model = Classifier(network, 3)
        model.log = lambda *_, **__: None  # type: ignore[method-assign]
        total = model.training_step(batch, 0)
        added = weight * sum(conv.lasso().item() for conv in network.learned)
        cross_entropy = model._losses["cross_entropy"].item()
        assert total.item() == pytest.approx(cross_entropy + added, rel=1e-5)
        assert ("lasso" in model._losses) is (weight > 0)


@pytest.mark.parametrize(("groups", "mul_adds", "parameters"), [(8, 261.5, 2.94), (4, 516.6, 4.77)])
def test_costs_of_the_papers_networks(groups: int, mul_adds: float, parameters: float) -> None:
    """Its ImageNet table: 274 and 529 M operations, norms and pools included, 2.9 and 4.8 M.

    Its classifier is condensed to a half, too.
    """
    network = CondenseNet(groups, groups)
    classifier = network.channels[-1] // 2 * 1000
    counted = count_exits(Classifier(network, 2), 224, 224)["pool"]
    assert round((counted + classifier) / 1e6, 1) == mul_adds
    dropped = sum(conv.weight.numel() * (groups - 1) // groups for conv in network.learned)
    kept = sum(p.numel() for p in network.parameters()) - dropped + classifier + 1000
    assert round(kept / 1e6, 2) == parameters


def test_parameters_of_the_cost_account_are_those_that_are_left() -> None:
    model = Classifier(CondenseNet(), 2).eval()
    memory = measure_memory(model.exits, torch.zeros(1, 3, 64, 32), model)["pool"]
    dropped = sum(7 * conv.weight.numel() // 8 for conv in model.backbone.learned)
    whole = sum(p.numel() for p in model.backbone.parameters())
    assert memory.parameters == whole - dropped == 1_902_416


def test_gradients_reach_the_weights_in_evaluation_mode() -> None:
    """As in a training with fixed batch norms."""
    conv = trained(layer(), ITERATIONS).eval()
    conv(images()).square().sum().backward()
    assert conv.weight.grad is not None
    used = conv.weight.grad[:, :, 0, 0].view(-1, GROUPS, INPUTS).abs().sum(0) > 0
    assert torch.equal(used, conv.kept)


def test_other_numbers_of_groups() -> None:
    with pytest.raises(ValueError, match="groups=3: CondenseNet has channels for 1, 2, 4 or 8"):
        CondenseNet(groups=3)
    with pytest.raises(ValueError, match="condense=16"):
        CondenseNet(condense=16)
