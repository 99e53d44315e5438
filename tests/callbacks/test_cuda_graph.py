"""Training passes as CUDA graphs: the numbers of ordinary steps."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from reid_lab.callbacks.cuda_graph import CudaGraph, GraphedPass
from reid_lab.errors import UserError
from reid_lab.model import ReidModule
from reid_lab.run.run import run
from tests.conftest import Compose
from tests.methods import STUDENTS, batch, to_train

SMALL = ("backbone=small", "backbone.width=4")
GPU = ("trainer.accelerator=gpu", "dataset.cache=device", "dataset.workers=0")
# PyTorch's own, of the thread of a first backward pass
pytestmark = [
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS"),
    pytest.mark.filterwarnings("ignore:verification:UserWarning"),  # on as few people as a test has
]
MIXED = partial(torch.autocast, "cuda", torch.bfloat16)


@pytest.mark.parametrize(
    ("device", "processes", "batches", "fix"),
    [
        ("cpu", 1, 1, "trainer.accelerator=gpu"),
        ("cuda", 2, 1, "trainer.devices=1"),
        ("cuda", 1, 4, "trainer.accumulate_grad_batches=1"),
        ("cuda", 1, 1, "compile=false"),
    ],
)
def test_what_cannot_be_captured_is_refused(
    device: str, processes: int, batches: int, fix: str
) -> None:
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer: Any = SimpleNamespace(
        strategy=strategy, world_size=processes, accumulate_grad_batches=batches
    )
    module = to_train("classifier")
    if fix == "compile=false":
        module.compilable[0].compile()
    with pytest.raises(UserError, match=f"cuda_graph.enabled=true needs {fix}"):
        CudaGraph(enabled=True).setup(trainer, module, "fit")
    CudaGraph(enabled=False).setup(trainer, module, "fit")


def test_a_run_on_the_cpu_is_refused_before_its_first_batch(composed: Compose) -> None:
    with pytest.raises(UserError, match="cuda_graph.enabled=true needs trainer.accelerator=gpu"):
        run(composed(*SMALL, "callbacks.cuda_graph.enabled=true"))


def gradients(module: ReidModule, given: dict[str, Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    outputs = module.outputs(given["image"])
    torch.stack(list(module.objective(outputs, given).values())).sum().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def on_gpu(seed: int) -> dict[str, Tensor]:
    given = {key: value.cuda() for key, value in batch().items()}
    generator = torch.Generator("cuda").manual_seed(seed)
    noise = torch.randn(given["image"].shape, device="cuda", generator=generator)
    return {**given, "image": noise}


@pytest.mark.gpu
@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("context", [nullcontext, MIXED], ids=["float32", "bfloat16"])
def test_a_replayed_pass_is_an_ordinary_one(name: str, context: Any) -> None:
    module = to_train(name).cuda()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    random = torch.cuda.get_rng_state()
    ordinary = module.outputs
    graphed = GraphedPass(module, on_gpu(0)["image"], context)
    assert torch.equal(torch.cuda.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    for seed in range(3):
        module.load_state_dict(before)
        module.outputs = ordinary  # type: ignore[method-assign]
        with context():
            expected = gradients(module, on_gpu(seed))
        statistics = {key: value.clone() for key, value in module.named_buffers()}
        module.load_state_dict(before)
        module.outputs = graphed  # type: ignore[method-assign,assignment]
        with context():
            found = gradients(module, on_gpu(seed))
        assert found.keys() == expected.keys()
        largest = max(float(value.norm()) for value in expected.values())
        tolerance = 1e-3 if context is nullcontext else 5e-2
        for key, value in expected.items():
            assert (found[key] - value).norm() <= tolerance * largest, key
        for key, value in module.named_buffers():
            torch.testing.assert_close(value, statistics[key], rtol=1e-2, atol=1e-2, msg=key)


@pytest.mark.gpu
def test_a_run_learns_as_without(composed: Compose) -> None:
    runs = {}
    for graph in ("false", "true"):
        cfg = composed(
            *SMALL, *GPU, f"callbacks.cuda_graph.enabled={graph}", "model.iterations=4", run=graph
        )
        run(cfg)
        path = Path(cfg.run_dir) / "checkpoints/last.ckpt"
        runs[graph] = torch.load(path, weights_only=True)["state_dict"]
    for name, value in runs["false"].items():
        torch.testing.assert_close(runs["true"][name], value, rtol=2e-2, atol=2e-3, msg=name)
