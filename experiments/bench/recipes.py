"""Training speed of the CPU recipes, and where the time of a step goes, by Lightning's profiler."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.profilers import SimpleProfiler
from rich.table import Table

from reid_lab.config.build import build_data, build_model, build_trainer
from reid_lab.config.choices import conf_dir
from reid_lab.config.overrides import composed
from reid_lab.cost.allocator import keep_blocks
from reid_lab.run.run import prepare_torch

WARM_UP, STEPS = 5, 20
PRECISIONS = ("32-true", "bf16-mixed")
# what Lightning calls the parts of a step
IMAGES = ("train_dataloader_next", "batch_to_device")
FORWARD, BACKWARD, OPTIMISER = "training_step", "backward", "optimizer_step"


@dataclass(frozen=True)
class RecipeSpeed:
    """Medians over the steps behind the warm-up.

    Attributes:
        precision: Lightning's.
        batch: images in a batch.
        step_ms: time from the end of one step to the end of the next.
        images_ms, forward_ms, backward_ms, optimiser_ms: parts of it in the training process: the
            batch and its augmentation, the network with its losses, their gradients, the update.
    """

    recipe: str
    precision: str
    height: int
    width: int
    batch: int
    step_ms: float
    images_ms: float
    forward_ms: float
    backward_ms: float
    optimiser_ms: float

    @property
    def images_per_second(self) -> float:
        return 1_000 * self.batch / self.step_ms


@dataclass(frozen=True)
class Recipes:
    """The speeds of several recipes."""

    speeds: Sequence[RecipeSpeed]

    def table(self) -> Table:
        found = Table(title="training by recipe, one thread, ms per step", title_justify="left")
        for head in ("", "images/s", "step", "images", "forward", "backward", "optimiser"):
            found.add_column(head, justify="right" if head else "left")
        for s in self.speeds:
            parts = (s.step_ms, s.images_ms, s.forward_ms, s.backward_ms, s.optimiser_ms)
            shown = (f"{part:.0f}" for part in parts)
            found.add_row(f"{s.recipe}, {s.precision}", f"{s.images_per_second:.0f}", *shown)
        return found

    def rows(self) -> list[dict[str, Any]]:
        return [{**asdict(s), "images_per_second": s.images_per_second} for s in self.speeds]


class StepClock(pl.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


class StepProfiler(SimpleProfiler):
    """Seconds of each call of an action, by the last part of its name."""

    def seconds(self, action: str) -> list[float]:
        found = [t for name, t in self.recorded_durations.items() if name.endswith(f".{action}")]
        return max(found, key=len, default=[])


def recipes() -> list[str]:
    """The recipes for a CPU, but those that need a teacher."""
    names = ("demo", *sorted(p.stem for p in (conf_dir() / "experiment").glob("*_cuhk03_cpu.yaml")))
    models = {name: composed([f"+experiment={name}"]).model for name in names}
    return [name for name, model in models.items() if not OmegaConf.is_missing(model, "teacher")]


def bench_recipes(root: Path) -> Recipes:
    """One thread, on the images in `root` at the recipe's size, from random weights."""
    threads = torch.get_num_threads()
    try:
        return Recipes(
            [
                measured(config_of(name, root, precision), name, STEPS)
                for name in recipes()
                for precision in PRECISIONS
            ]
        )
    finally:
        torch.set_num_threads(threads)  # for what is measured next


def config_of(name: str, root: Path, precision: str = "32-true") -> DictConfig:
    """The recipe's config, but for the images, which are read as Market-1501's."""
    words = ["threads=1", f"run_dir={root}/run", f"name={name}"]
    cfg = composed([f"+experiment={name}", *words])
    market = composed(["dataset=market1501", *words])
    cfg.dataset.reader, cfg.dataset.root = market.dataset.reader, str(root)
    if "recipe" in cfg.dataset:
        cfg.dataset.recipe = None  # renders nothing
    cfg.dataset.workers, cfg.dataset.cache = 0, "memory"
    cfg.trainer.val_check_interval, cfg.trainer.precision = 100_000, precision
    cfg.callbacks, cfg.logger = dict.fromkeys(cfg.callbacks), None
    if OmegaConf.select(cfg, "backbone.weights") is not None:
        cfg.backbone.weights = None
    return cfg


def measured(cfg: DictConfig, name: str, steps: int) -> RecipeSpeed:
    if cfg.allocator == "keep":
        keep_blocks()
    prepare_torch(cfg)
    data, clock, profiler = build_data(cfg), StepClock(), StepProfiler()
    model = build_model(cfg, data.identities)
    cfg.trainer.max_steps = WARM_UP + steps
    trainer = build_trainer(cfg)
    trainer.profiler = profiler  # type: ignore[attr-defined]
    trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    trainer.fit(model, data)
    total = medians_of(ends=clock.ends, profiler=profiler)
    batch = len(next(iter(data.train_dataloader()))["pid"])
    size = cfg.dataset.transforms
    return RecipeSpeed(name, cfg.trainer.precision, size.height, size.width, batch, **total)


def medians_of(ends: Sequence[float], profiler: StepProfiler) -> Mapping[str, float]:
    """Milliseconds a step; an optimiser's step contains the forward and the backward pass."""
    ms = {
        action: 1_000 * statistics.median(profiler.seconds(action)[WARM_UP:] or [0.0])
        for action in (*IMAGES, FORWARD, BACKWARD, OPTIMISER)
    }
    gaps = [later - earlier for earlier, later in zip(ends, ends[1:], strict=False)]
    return {
        "step_ms": 1_000 * statistics.median(gaps[WARM_UP - 1 :]),
        "images_ms": sum(ms[action] for action in IMAGES),
        "forward_ms": ms[FORWARD],
        "backward_ms": ms[BACKWARD],
        "optimiser_ms": ms[OPTIMISER] - ms[FORWARD] - ms[BACKWARD],
    }
