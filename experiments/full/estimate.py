"""What a study takes: counted arithmetic and memory, and minutes on a GPU by stated assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from experiments.full.studies import Run, Study
from reid_lab.budget.mul_adds import count_exits
from reid_lab.config.build import image_size
from reid_lab.config.dry_run import FLOAT, activations, try_model
from reid_lab.config.overrides import composed
from reid_lab.search import Schedule

# CUHK03 detected, new protocol
IMAGES, TESTED = 7365, 6732
# Assumptions, until a study has run: an H100 SXM with bf16 (NVIDIA's data sheet: 989 dense TFLOP/s)
# keeps 15% of its peak busy on these convolutions, and a step of eager PyTorch takes 0.1 ms for
# each of the network's tensors of weights (its kernels' launches, both passes, the optimiser).
PEAK, BUSY, LAUNCH = 989e12, 0.15, 1e-4
START, TEST = 0.5, 1.0  # minutes: of a process with its data, of the test with its tables
COPIES = 4  # of each weight: value, gradient, optimiser's state (two for Adam)


@dataclass(frozen=True)
class Estimate:
    """`flops` of the whole training, `bytes_` of GPU memory, `minutes` with the test."""

    steps: int
    batch: int
    flops: float
    bytes_: float
    minutes: float


def estimate(study: Study, overrides: Sequence[str] = ()) -> Estimate:
    """Of one seed. A forward pass is 2 FLOPs a Mul-Add, a backward pass twice that."""
    words = [f"+experiment={study.experiment}", *study.overrides, "dataset.root=.", *overrides]
    words += ["model.teacher=."] * (study.teacher is not None)
    cfg = composed(words)
    if study.weights:
        cfg.backbone.weights = None
    _, model = try_model(cfg, None)
    network = getattr(model, "student", model)
    height, width = image_size(cfg)
    data = cfg.dataset
    batch = data.batch_size or data.p * data.k
    steps = steps_of(cfg)
    mul_adds = max(count_exits(model, height, width).values())
    weights = [p.numel() for p in network.parameters()]
    kept, _ = activations(model, (height, width))
    enlarged = round(height * data.transforms.enlarge) * round(width * data.transforms.enlarge)
    flops = 6.0 * mul_adds * batch * steps
    seconds = max(flops / (PEAK * BUSY), steps * len(weights) * LAUNCH)
    bytes_ = COPIES * FLOAT * sum(weights) + batch * kept / 2 + 3 * enlarged * (IMAGES + TESTED)
    return Estimate(steps, batch, flops, bytes_, START + seconds / 60 + TEST)


def steps_of(cfg: DictConfig) -> int:
    """Batches of the training; of PLA's search as many as its rounds make."""
    search = cfg.callbacks.get("progressive")
    if search is None:
        return int(cfg.trainer.max_steps)
    epoch = -(-IMAGES // (cfg.dataset.p * cfg.dataset.k))
    lengths = (search.rounds, search.settings, search.explore_epochs, search.exploit_epochs)
    return Schedule(*lengths, epoch).total


def remaining(run: Run, expected: Estimate) -> float:
    """Minutes that a run still takes: at the speed it had, else as estimated."""
    trained = [row for row in run.slices() if int(row["steps"]) > int(row["from_step"])]
    if not trained:
        return expected.minutes
    took = sum(float(row["seconds"]) for row in trained) / 60
    steps = sum(int(row["steps"]) - int(row["from_step"]) for row in trained)
    return (expected.steps - int(trained[-1]["steps"])) * took / steps + TEST
