"""Fused optimisers take the ordinary step, clipped and scaled alike, and resume it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import profile

from reid_lab.callbacks import FusedOptimizer
from reid_lab.checkpoint import read_checkpoint
from reid_lab.config.paths import last_checkpoint
from reid_lab.run.run import run
from tests.conftest import Compose
from tests.run.test_run import UNNEEDED, losses

Make = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
MADE: dict[str, Make] = {
    "_fused_adam_": partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1, amsgrad=True),
    "_fused_adamw_": partial(torch.optim.AdamW, lr=1e-2, betas=(0.5, 0.999)),
    "_fused_sgd_": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
}


def trainer(device: str, *optimizers: torch.optim.Optimizer) -> Any:
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(strategy=strategy, optimizers=[*optimizers])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any) -> None:
    """A step of mixed precision, clipped, as Lightning takes it."""
    optimizer.zero_grad()
    images = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    scaler.scale(model(images).square().sum()).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("kernel", MADE)
def test_the_kernel_is_used_and_takes_the_same_steps(kernel: str) -> None:
    found = []
    for enabled in (False, True):
        model = network()
        optimizer = MADE[kernel](model.parameters())
        FusedOptimizer(enabled).on_fit_start(trainer("cpu", optimizer), None)  # type: ignore[arg-type]
        scaler = torch.amp.GradScaler("cpu")
        with profile() as used:
            for _ in range(5):
                step(model, optimizer, scaler)
        assert (f"aten::{kernel}" in {event.key for event in used.key_averages()}) == enabled
        found.append(model.state_dict())
    before = network().state_dict()
    for name in before:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(found[0][name], before[name], atol=1e-3)


def test_devices_and_optimisers_without_a_kernel_stay_as_they_are() -> None:
    adam, adagrad = (kind(network().parameters()) for kind in (torch.optim.Adam, torch.optim.Rprop))
    FusedOptimizer().on_fit_start(trainer("xla", adam), None)  # type: ignore[arg-type]
    assert adam.param_groups[0]["fused"] is None
    FusedOptimizer().on_fit_start(trainer("cpu", adagrad), None)  # type: ignore[arg-type]
    assert "fused" not in adagrad.param_groups[0]


@pytest.mark.parametrize("kernel", MADE)
@pytest.mark.parametrize("before", [False, True])
def test_a_training_goes_on_fused_or_not(kernel: str, before: bool) -> None:
    """The state in a checkpoint is kept, the switch is that of the run."""
    models = [network(), network()]
    optimizers = [MADE[kernel](model.parameters()) for model in models]
    scaler = torch.amp.GradScaler("cpu")
    first, second = FusedOptimizer(before), FusedOptimizer(not before)
    first.on_fit_start(trainer("cpu", optimizers[0]), None)  # type: ignore[arg-type]
    for _ in range(3):
        step(models[0], optimizers[0], scaler)
    checkpoint = {"optimizer_states": [deepcopy(optimizers[0].state_dict())]}
    second.on_fit_start(trainer("cpu", optimizers[1]), None)  # type: ignore[arg-type]
    second.on_load_checkpoint(trainer("cpu"), None, checkpoint)  # type: ignore[arg-type]
    optimizers[1].load_state_dict(checkpoint["optimizer_states"][0])
    models[1].load_state_dict(models[0].state_dict())
    assert optimizers[1].param_groups[0]["fused"] is (None if before else True)
    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer, scaler)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.system
def test_a_run_with_clipping_and_mixed_precision_goes_on_fused(composed: Compose) -> None:
    few = ("model=classifier", "backbone=small", "backbone.width=4", "model.iterations=6")
    few = (*few, "trainer.log_every_n_steps=1", *(f"callbacks.{name}=null" for name in UNNEEDED))
    few = (*few, "+trainer.gradient_clip_val=0.1", "trainer.precision=bf16-mixed")
    off = "callbacks.fused_optimizer.enabled=false"
    whole = composed(*few, off, run="whole")
    run(whole)
    run(composed(*few, off, "trainer.max_steps=3", run="parts"))
    parts = composed(*few, "ckpt_path=last", run="parts")
    run(parts)
    one, two = (losses(Path(cfg.run_dir)) for cfg in (whole, parts))
    assert one.keys() == two.keys()
    assert [float(two[s]) for s in two] == pytest.approx([float(one[s]) for s in one], rel=1e-2)
    plain, fused = (
        read_checkpoint(last_checkpoint(Path(cfg.run_dir)))["optimizer_states"][0]
        for cfg in (whole, parts)
    )
    assert [plain["param_groups"][0]["fused"], fused["param_groups"][0]["fused"]] == [None, True]
    for number, state in plain["state"].items():
        torch.testing.assert_close(fused["state"][number], state, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_a_state_of_another_shape_never_reaches_a_kernel(fused: bool) -> None:
    """The kernels would write beyond it; the ordinary steps refuse it themselves."""
    weight = nn.Parameter(torch.zeros(4, 4))
    optimizer = torch.optim.Adam([weight], fused=fused)
    trainer: Any = SimpleNamespace(optimizers=[optimizer])
    check = partial(FusedOptimizer().on_train_start, trainer, None)  # type: ignore[arg-type]
    check()
    fits = torch.zeros(4, 4)
    optimizer.state[weight] = {"step": torch.zeros(()), "exp_avg": fits, "exp_avg_sq": fits}
    check()
    optimizer.state[weight]["exp_avg_sq"] = torch.zeros(3)
    if fused:
        with pytest.raises(
            ValueError, match=r"exp_avg_sq has shape \(3,\), its parameter \(4, 4\)"
        ):
            check()
    else:
        check()
