"""What holds for every method and backbone; a new YAML in conf/ is tested without an edit here."""

from __future__ import annotations

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from reid_lab.backbone.condensenet import LearnedGroupConv
from reid_lab.cost.mul_adds import count_exits, exit_dims
from reid_lab.model import ReidModule
from reid_lab.model.base import State
from tests.methods import (
    BACKBONES,
    METHODS,
    NETWORKS,
    SIZE,
    backbone,
    batch,
    is_trained,
    method,
    on_backbone,
    to_train,
    trainer,
)

VARIANTS = {
    **{name: (name,) for name in METHODS},
    "han, both objectives": ("han", "model.objective=both"),
    "dare, strips": ("dare", "model.strips=2", "model.cross_entropy=1"),
    "jlml, two stems": ("jlml", "model.shared_stem=false"),
    "distilled, DaRe": (
        *("distilled", "model@model.student=dare", "model.soft_targets=false"),
        "model.features=hint",
    ),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return VARIANTS[request.param]


def part_alone(model: ReidModule) -> None:
    images, kept = batch()["image"][:4], torch.tensor([3, 1])
    together = model(images)
    assert tuple(together) == tuple(model.exit_names)
    for stop in range(len(model.exit_names)):
        state: State = (images,)
        for number, name in enumerate(model.exit_names):
            state, rows = model.step(name, state)
            expected = together[name] if number < stop else together[name][kept]
            if number == stop:  # the others exit here
                state, rows = tuple(part[kept] for part in state), rows[kept]
            torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_part_of_a_batch_continues_alone(variant: tuple[str, ...]) -> None:
    part_alone(method(*variant))


@pytest.mark.recipe
@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_part_of_a_batch_passes_a_backbone_alone(name: str) -> None:
    part_alone(on_backbone(name))


def untouched(model: ReidModule) -> list[str]:
    """Parameters without a gradient after a training step."""
    torch.stack(list(model.losses(batch()).values())).sum().backward()
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad
        # the gradient of one number in front of a norm is zero for any loss
        and (p.grad is None or (p.numel() > 1 and not p.grad.any()))
    ]


@pytest.mark.recipe
def test_gradients_reach_every_parameter(variant: tuple[str, ...]) -> None:
    if not is_trained(variant[0]):
        pytest.skip("learns in closed form")
    model = to_train(*variant)
    assert not untouched(model)


@pytest.mark.recipe
@pytest.mark.parametrize("name", BACKBONES)  # a gate of OSNet x0.25 has one ReLU, maybe dead
def test_gradients_reach_every_parameter_of_a_backbone(name: str) -> None:
    assert not untouched(on_backbone(name).train())


def hooked(model: ReidModule) -> dict[str, int]:
    """Mul-Adds of an image at each exit by the shapes that pass convolutions and linear layers."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            fan_in = module.in_channels // module.groups * module.weight[0, 0].numel()
            total += output.numel() * fan_in
        elif isinstance(module, nn.Linear):
            total += output.numel() * module.in_features
        elif isinstance(module, LearnedGroupConv):
            total += output.numel() * module.chosen.shape[1]

    hooks = [m.register_forward_hook(count) for m in model.modules()]
    counts = {}
    for name, _ in model.exits(torch.zeros(1, 3, *SIZE)):
        counts[name] = total
    for hook in hooks:
        hook.remove()
    return counts


def counts_agree(model: ReidModule) -> None:
    counts, layers = count_exits(model, *SIZE), hooked(model)
    assert list(counts) == list(model.exit_names)
    assert list(counts.values()) == sorted(counts.values())
    if layers[model.exit_names[-1]]:
        for name, count in counts.items():  # products outside of layers are few
            assert layers[name] <= count <= 1.02 * layers[name]
    assert exit_dims(model, *SIZE) == {
        name: rows.shape[1] for name, rows in model(batch()["image"]).items()
    }


@pytest.mark.recipe
@torch.no_grad()
def test_counts_are_those_of_the_layers(
    variant: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # in evaluation HAN's layers call no convolution module, whose hooks count
    monkeypatch.setattr(
        "reid_lab.backbone.han.units.ConvNorm.folded", lambda self, x: self.norm(self.conv(x))
    )
    counts_agree(method(*variant))


@pytest.mark.recipe
@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_counts_of_a_backbone_are_those_of_its_layers(name: str) -> None:
    counts_agree(on_backbone(name))


@pytest.mark.recipe
@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_backbone_states_its_channels(name: str) -> None:
    network, images = backbone(name), batch()["image"][:2]
    assert network.names == tuple(network.stages) and len(network.names) == len(network.channels)
    x, sides = images, [SIZE]
    for stage, channels in zip(network.names, network.channels, strict=True):
        x = network.stages[stage](x)
        maps = network.maps(stage, x)
        assert maps.shape[:2] == (2, channels) and maps.ndim == 4
        sides.append((maps.shape[2], maps.shape[3]))
    assert sides == sorted(sides, reverse=True)
    torch.testing.assert_close(network(images), maps)


@pytest.mark.recipe
def test_exits_are_lazy(variant: tuple[str, ...]) -> None:
    model = method(*variant)
    ran: list[str] = []
    step = type(model).step

    def noted(self: ReidModule, exit: str, state: State) -> tuple[State, Tensor]:
        ran.append(exit)
        return step(self, exit, state)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(type(model), "step", noted)
        exits = model.exits(batch()["image"])
        for number, name in enumerate(model.exit_names):
            assert ran == list(model.exit_names[:number])
            assert next(exits)[0] == name


def test_parts_to_compile_are_called_as_a_whole(variant: tuple[str, ...]) -> None:
    model = method(*variant)
    parts, called = model.compilable, set[nn.Module]()
    for part in parts:
        part.register_forward_hook(lambda module, *_: called.add(module))
    with torch.no_grad():
        model.outputs(batch()["image"])
    assert called == set(parts) and len(parts) == len(called)
    assert set(parts) <= set(model.modules())
    inside = {p for part in parts for p in part.parameters()}
    biggest = max(model.parameters(), key=Tensor.numel, default=None)
    assert biggest is None or not biggest.requires_grad or biggest in inside


def test_a_resumed_training_continues_the_random_numbers(
    variant: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LightningModule, "log", lambda *_, **__: None)
    model = to_train(*variant)
    optimizers = [model.configure_optimizers()] if is_trained(variant[0]) else []
    model.trainer = trainer(optimizers=optimizers, global_step=0)
    model.on_load_checkpoint({"state_dict": {}, "rng_state": torch.get_rng_state()})
    expected = torch.rand(3)
    for number in range(2):
        model.on_train_batch_start(batch(), number)
        assert torch.equal(torch.rand(3), expected) == (number == 0)
