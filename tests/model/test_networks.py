"""Every method that takes a backbone, on today's small networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_lab.budget.policies import Lookup
from reid_lab.budget.steps import steady_rows
from reid_lab.budget.stopping import BudgetedStream
from reid_lab.budget.stream import RunningQuantile, exit_probabilities, exit_shares
from reid_lab.cost.mul_adds import count_exits
from reid_lab.model import ReidModule
from tests.budget.people import ids
from tests.commands import cost
from tests.methods import (
    METHODS,
    NETWORKS,
    SIZE,
    TODAY,
    batch,
    on_backbone,
    takes_a_backbone,
    to_train,
)

pytestmark = pytest.mark.recipe

QUICK = ("--batch=1", "--repeats=1", "--seconds=0.01", "--device=cpu", "--allocator=default")


@pytest.mark.parametrize("network", TODAY)
@pytest.mark.parametrize("name", [name for name in METHODS if takes_a_backbone(name)])
def test_a_training_step(name: str, network: str) -> None:
    model = to_train(name, *NETWORKS[network])
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in trained.items()}
    optimiser = model.configure_optimizers()
    assert isinstance(optimiser, torch.optim.Optimizer)
    losses = model.losses(batch())
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    assert all(loss.isfinite() for loss in losses.values())
    reached = [n for n, p in trained.items() if p.grad is not None and p.grad.any()]
    assert len(reached) > 0.9 * len(trained)  # some units of small networks are dead
    assert any(not p.equal(before[n]) for n, p in trained.items() if "stage1" in n)


@pytest.mark.parametrize("network", TODAY)
def test_the_cost_table(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*NETWORKS[network], "backbone.weights=null"]
    words += [f"dataset.transforms.height={SIZE[0]}", f"dataset.transforms.width={SIZE[1]}"]
    assert cost([*QUICK, "model=dare", *words]) == 0
    printed = capsys.readouterr().out
    model = on_backbone(network, "dare")
    assert all(exit in printed for exit in model.exit_names)
    counts = list(count_exits(model, *SIZE).values())
    assert counts == sorted(counts) and counts[0] > 0


@pytest.fixture(params=TODAY)
def dare(request: pytest.FixtureRequest) -> ReidModule:
    model: ReidModule = on_backbone(request.param, "dare").to(memory_format=torch.channels_last)
    return model


@torch.inference_mode()
def test_stopping_equals_replaying(dare: ReidModule) -> None:
    images = torch.randn(16, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    images = images.contiguous(memory_format=torch.channels_last)
    query, gallery = (ids(torch.arange(n) % 4 + 1, torch.arange(n) % 2) for n in (16, 24))
    exits = dare.stream_exits
    full = dare(images)
    shown = {name: full[name].repeat(2, 1)[:24] + 0.1 for name in exits}
    chances = exit_probabilities(exit_shares(1.0, len(exits)))
    rows = steady_rows(dare, images)

    def stream() -> BudgetedStream:
        lookups = {name: Lookup(shown[name], gallery) for name in exits}
        rule = RunningQuantile(chances)
        return BudgetedStream(dare, lookups, "margin", rule, 0, rows=rows)

    live, replayed = stream(), stream()
    for part in torch.arange(16).split(8):
        stopped = live(images[part], query.take(part))
        again = replayed.replay({name: full[name][part] for name in exits}, query.take(part))
        assert np.array_equal(stopped.exits, again.exits)
        assert np.array_equal(stopped.nearest, again.nearest)
        for one, two in zip(stopped.embeddings, again.embeddings, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
