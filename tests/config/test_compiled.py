"""`compile=true` compiles every part that a method names, and computes the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from reid_lab.model import ReidModule
from tests.methods import METHODS, batch, is_trained, method, to_train


def step(model: ReidModule) -> dict[str, Tensor]:
    """The losses of a training step, and the gradients."""
    torch.manual_seed(1)
    model.zero_grad()
    losses = model.losses(batch())
    torch.stack(list(losses.values())).sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found | {f"loss {name}": value.detach() for name, value in losses.items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.recipe
@pytest.mark.parametrize("name", [name for name in METHODS if is_trained(name)])
def test_losses_gradients_and_embeddings_are_the_same(name: str, graphs: Any) -> None:
    plain, compiled = to_train(name), to_train(name, "compile=true")
    parts = set(compiled.compilable)
    assert parts and all(p._compiled_call_impl is not None for p in parts)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert equal(step(compiled), step(plain))
    assert graphs.frame_count > 0
    with torch.compiler.set_stance("fail_on_recompile"):  # the shapes of training are fixed
        assert equal(step(compiled), step(plain))
    assert counters["frames"]["total"] == counters["frames"]["ok"]


def test_no_part_reaches_the_limit_of_graphs(graphs: Any) -> None:
    """Beyond it, torch runs uncompiled. Nine parts, trained and tested with batches of any size."""
    model, plain = (method("dare", *words).train() for words in (("compile=true",), ()))
    images, parts = batch()["image"], len(model.compilable)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        plain.outputs(images)  # changes the statistics of its batch norms
        found = [graphs_of(graphs, partial(model.outputs, images))]
        model.eval()
        with torch.no_grad():
            found += [graphs_of(graphs, partial(model, images[:n])) for n in (6, 5, 4, 1)]
            assert equal(model(images), plain.eval()(images))
        found += [graphs_of(graphs, partial(model.train().outputs, images))]
    assert found[:2] == [parts, parts]
    assert found[3] == found[-1] == 0  # of a size that varies, and trained on


def graphs_of(counter: Any, compute: Callable[[], object]) -> int:
    """How many graphs a computation adds."""
    before = int(counter.frame_count)
    compute()
    return int(counter.frame_count) - before


def test_parts_of_models_before_do_not_count(graphs: Any) -> None:
    """A sweep's jobs in one process: the last is compiled as the first was."""
    images = batch()["image"]
    found = []
    for _ in range(3):
        model = method("classifier", "compile=true")
        with torch.no_grad():
            found.append(graphs_of(graphs, partial(model, images)))
    assert found == [len(model.compilable)] * 3
