"""Estimate the arithmetic, memory and GPU minutes of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from experiments.full.studies import Study, StudyRun
from reid_lab.config.dry_run import FLOAT, activations, try_model
from reid_lab.config.make import image_size
from reid_lab.config.overrides import composed
from reid_lab.cost.mul_adds import count_exits
from reid_lab.search import Schedule

IMAGES, TESTED = 7365, 6732  # training and test images of CUHK03 (detected, new protocol)
# HAN took 0.10 and MobileNetV2 0.14 ms a weight tensor and step on an H200, four runs at a time.
# Not measured: that large convolutions reach 15% of the bf16 peak of an H100 SXM (989 dense TFLOP/s
# in NVIDIA's data sheet).
PEAK, BUSY, LAUNCH = 989e12, 0.15, 1.2e-4
START, TEST = 0.5, 1.0  # minutes to start a process and load data; to test and write tables
COPIES = 4  # of each weight: value, gradient, two moments of Adam


@dataclass(frozen=True)
class StudyEstimate:
    """Cost of one training: `flops`, `bytes_` of GPU memory, `minutes` including the test."""

    steps: int
    batch: int
    flops: float
    bytes_: float
    minutes: float


def estimate(study: Study, overrides: Sequence[str] = ()) -> StudyEstimate:
    """Estimate one seed: 2 FLOPs per Mul-Add forward, twice that backward."""
    args = [f"+experiment={study.experiment}", *study.overrides, "dataset.root=.", *overrides]
    args += ["model.teacher=."] * (study.teacher is not None)
    cfg = composed(args)
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
    activation_bytes, _ = activations(model, (height, width))
    enlarged = round(height * data.transforms.enlarge) * round(width * data.transforms.enlarge)
    flops = 6.0 * mul_adds * batch * steps
    seconds = max(flops / (PEAK * BUSY), steps * len(weights) * LAUNCH)
    bytes_ = COPIES * FLOAT * sum(weights) + batch * activation_bytes / 2  # bf16 activations
    bytes_ += 3 * enlarged * (IMAGES + TESTED)
    return StudyEstimate(steps, batch, flops, bytes_, START + seconds / 60 + TEST)


def steps_of(cfg: DictConfig) -> int:
    """Training steps; for PLA's search the total of its rounds."""
    search = cfg.callbacks.get("progressive")
    if search is None:
        return int(cfg.trainer.max_steps)
    epoch = -(-IMAGES // (cfg.dataset.p * cfg.dataset.k))
    lengths = (search.rounds, search.settings, search.explore_epochs, search.exploit_epochs)
    return Schedule(*lengths, epoch).total


def remaining(run: StudyRun, expected: StudyEstimate) -> float:
    """Minutes until a run is done: by its measured speed, or as estimated before its first step."""
    trained = [row for row in run.slices() if int(row["steps"]) > int(row["from_step"])]
    if not trained:
        return expected.minutes
    minutes = sum(float(row["seconds"]) for row in trained) / 60
    steps = sum(int(row["steps"]) - int(row["from_step"]) for row in trained)
    return (expected.steps - int(trained[-1]["steps"])) * minutes / steps + TEST
