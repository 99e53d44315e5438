"""Which stages of a backbone are worth a head.

A stage's accuracy is that of a linear probe of its average-pooled maps: the metric of KISSME, in
closed form, from some of the training people, on others that are held out. No network is trained
and no test image is read. A trained head is more accurate: compare stages with each other, not with
heads. A stage's cost is by a profile of this machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from reid_lab.backbone import Backbone
from reid_lab.budget.profile import measure_profile
from reid_lab.budget.stream import mixed_shares
from reid_lab.classical.kissme import kissme
from reid_lab.classical.subspace import Subspace
from reid_lab.config.build import build_data
from reid_lab.config.check import ConfigError
from reid_lab.config.make import make
from reid_lab.config.overrides import composed
from reid_lab.config.settings import check_settings
from reid_lab.cost.account import Counted, Effort, Subject, noise
from reid_lab.cost.allocator import keep_blocks
from reid_lab.cost.currency import UNITS, Currency
from reid_lab.cost.machine import find_device
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.loading import ROLES
from reid_lab.dataset.transforms import normalise
from reid_lab.errors import UserError, with_options
from reid_lab.gallery.embedder import Embedder
from reid_lab.output import arguments
from reid_lab.output.arguments import texts
from reid_lab.profiling.measure import Allocator
from reid_lab.protocol import DISTRACTOR
from reid_lab.results.rows.cost import ProfileRow
from reid_lab.retrieval import Embeddings, Evaluation, Exit, Ids, evaluate
from reid_lab.run.messages import silence_lightning
from reid_lab.run.run import prepare_torch

PEOPLE = 100  # held-out people if the config has none
FIT = 3000  # images of other people, from which the probe is computed
PCA = 200  # dimensions of the probe at most
ROUNDING = 1e-9  # rounding error of a sum of shares


@dataclass(frozen=True)
class StageWorth:
    """A stage: its cost, its accuracy, and what random exits reach at its cost.

    Attributes:
        budget: its cost, or the nearest budget of the range, in the range's currency.
        reached: Rank-1 at this budget, with exits at all stages.
        mixed: the same with exits at all other stages.
    """

    name: str
    mul_adds: int
    milliseconds: float
    rank1: float
    mean_ap: float
    budget: float
    reached: float
    mixed: float

    @property
    def worth_a_head(self) -> bool:
        return self.reached > self.mixed + ROUNDING


@dataclass(frozen=True)
class StageSuggestion:
    """The stages of a backbone, measured.

    Attributes:
        stages: one per stage, in their order.
        dataset: name of the data set.
        profile: times of the first stage, with this machine's device and threads.
        trained: whether the network was trained on this data.
    """

    stages: list[StageWorth]
    dataset: str
    profile: ProfileRow
    trained: bool

    @property
    def worth_a_head(self) -> list[str]:
        """Names of the stages at which an exit raises the accuracy."""
        return [stage.name for stage in self.stages if stage.worth_a_head]


def suggest_exits(
    overrides: str | Sequence[str],
    checkpoint: Path | str | None = None,
    *,
    budgets: Budgets | None = None,
    gallery: int | None = None,
    repeats: int = 50,
    seconds: float = 30.0,
    device: str = "auto",
    allocator: Allocator = "keep",
) -> StageSuggestion:
    """Measure which stages of a backbone are worth a head, before any of them is trained.

    Args:
        overrides: words of the command line: a data set, and a backbone.
        checkpoint: take the backbone of this checkpoint.
        budgets: mean budgets of a query; None takes each stage's own cost.
        gallery: size of the gallery of a query; None takes the held-out one's.
        repeats: most timed passes.
        seconds: seconds to time the network.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.
        allocator: glibc's allocator, as of `measure_costs`.

    Raises:
        UserError: invalid overrides, a checkpoint that was trained on all people, or budgets below
            the first stage's cost.
    """
    overrides = texts("overrides", overrides)
    if allocator == "keep":
        keep_blocks()
    cfg = composed(overrides)
    groups = ("dataset", "seed", "backbone")
    problems = [p for p in check_settings(cfg) if p.key.split(".")[0] in groups]
    if problems:
        raise ConfigError(problems)
    silence_lightning()
    prepare_torch(cfg)
    where = find_device(device)
    backbone = _backbone(cfg, arguments.path_or_none("checkpoint", checkpoint)).eval().to(where)
    trained = checkpoint is not None
    data = held_out(cfg, trained)
    evaluation = evaluate_stages(backbone, data, where)
    effort = Effort(1, repeats, seconds)
    rows = _profile(backbone, evaluation, data, effort, gallery, where)
    found = worths(rows, evaluation, budgets)
    return StageSuggestion(found, data.benchmark.name, rows[0], trained)


def _backbone(cfg: DictConfig, checkpoint: Path | None) -> Backbone:
    """The backbone of the checkpoint, or of the config with its weights."""
    if checkpoint is None:
        made: Backbone = make(cfg, "backbone")
        return made
    backbone = getattr(Embedder.load(checkpoint, device="cpu").model, "backbone", None)
    if not isinstance(backbone, Backbone):
        text = (
            f"{checkpoint}: its method has no backbone with stages: give a run of dare, "
            "bot, pla or classifier, or a config without"
        )
        raise with_options(UserError(f"{text} checkpoint"), f"{text} --checkpoint")
    return backbone


def held_out(cfg: DictConfig, trained: bool) -> ReidDataModule:
    """The data with people held out of its training split.

    Args:
        trained: the network was trained on this data, and knows all people but those.

    Raises:
        UserError: a trained network, and no person was held out.
    """
    data = build_data(cfg)
    data.render()
    if data.val_identities:
        return data
    if trained:
        raise UserError(
            "dataset.val_identities=0: the checkpoint was trained on all people of the training "
            "split, on whom accuracies are too high; give a checkpoint of a training with "
            "dataset.val_identities=N, and the same N here"
        )
    cfg.dataset.val_identities = min(PEOPLE, max(2, data.identities // 2))
    return build_data(cfg)


@torch.inference_mode()
def stage_features(backbone: Backbone, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Images (N, 3, H, W) -> the average-pooled maps (N, C) of each stage, one after the other."""
    x = images
    for name, stage in backbone.stages.items():
        x = stage(x)
        yield name, backbone.maps(name, x).mean((2, 3))


def evaluate_stages(backbone: Backbone, data: ReidDataModule, device: torch.device) -> Evaluation:
    """Rank the held-out people by a probe of each stage.

    Raises:
        PairsError: the people of the probe have no images in two cameras.
    """
    fitting = _features(backbone, data, data.train_images_loader(), device, FIT)
    known = Ids.of(data.train_split).take(torch.arange(len(next(iter(fitting.values())))))
    features = _features(backbone, data, data.held_out_loader(), device)
    ids, counts = Ids.of(data.eval_split("val")), _mul_adds(backbone, data, device)
    is_query = torch.from_numpy(data.roles("val") == ROLES.index("query"))
    q, g = is_query.nonzero().flatten(), (~is_query).nonzero().flatten()
    exits = {}
    for name, rows in features.items():
        people = known.pids > DISTRACTOR
        space = Subspace.of(fitting[name][people])
        projection, _ = kissme(space, known.pids[people], known.camids[people], PCA, clip=True)
        probed = rows @ projection
        exits[name] = Exit(probed[q], probed[g], counts[name])
    found = Embeddings(ids.take(q), ids.take(g), exits)
    return evaluate(found, protocol=data.benchmark.protocol)


def _features(
    backbone: Backbone,
    data: ReidDataModule,
    batches: Iterable[Any],
    device: torch.device,
    most: int | None = None,
) -> dict[str, Tensor]:
    """Stage -> pooled features (N, C), of several views their mean.

    Args:
        most: images, rounded up to a batch; None takes all.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in backbone.names}
    count = 0
    for batch in batches:
        batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        images = data.on_after_batch_transfer(batch, 0)["image"]
        views = images.shape[1] if images.ndim == 5 else 1
        for name, rows in stage_features(backbone, images.flatten(0, -4)):
            parts[name].append(rows.unflatten(0, (-1, views)).mean(1).float().cpu())
        count += len(images)
        if most is not None and count >= most:
            break
    return {name: torch.cat(rows) for name, rows in parts.items()}


def _mul_adds(backbone: Backbone, data: ReidDataModule, device: torch.device) -> dict[str, int]:
    """Cumulative, of one image."""
    image = torch.zeros(1, 3, *data.transforms.size, device=device)
    counts = {}
    with FlopCounterMode(display=False) as counter:
        for name, _ in stage_features(backbone, image):
            counts[name] = counter.get_total_flops() // 2
    return counts


def _profile(
    backbone: Backbone,
    evaluation: Evaluation,
    data: ReidDataModule,
    effort: Effort,
    gallery: int | None,
    device: torch.device,
) -> list[ProfileRow]:
    """The stages of one query at a time, by the same passes as a network's exits."""
    exits = evaluation.embeddings.exits
    subject = Subject(
        "exit",
        lambda images: stage_features(backbone, images),
        lambda count: normalise(noise(count, data.transforms.size, device)),
        {
            name: Counted(exits[name].mul_adds, channels)
            for name, channels in zip(backbone.names, backbone.channels, strict=True)
        },
        backbone,
    )
    images = gallery or len(evaluation.embeddings.gallery)
    return measure_profile(subject, effort, [1], images)


@dataclass(frozen=True)
class Budgets:
    """Mean budgets of a query, from `low` to `high`, in Mul-Adds or milliseconds."""

    currency: Currency = "latency"
    low: float = 0.0
    high: float = math.inf

    def __str__(self) -> str:
        return f"{self.low:,g} to {self.high:,g} {self.unit}"

    @property
    def unit(self) -> str:
        return UNITS[self.currency]

    def check(self, first: float) -> None:
        """Check that the first stage's cost can be paid.

        Raises:
            UserError: not by the highest budget.
        """
        if self.high < first:
            text = (
                f"{self.high:,g} {self.unit}, the first stage costs {first:,.4g}: give a higher "
                "budget, or a smaller backbone"
            )
            raise with_options(
                UserError(f"budgets end at {text}"), f"--budget-{self.unit.lower()} ends at {text}"
            )


def worths(
    rows: Sequence[ProfileRow], evaluation: Evaluation, budgets: Budgets | None
) -> list[StageWorth]:
    """The stages in their order; costs are of the network.

    A stage is worth a head if exits at it raise the accuracy somewhere in the range of budgets.
    With random exits that is so at the budget nearest to its cost, or nowhere: what a stage adds
    rises up to its cost and falls beyond.

    Args:
        budgets: None has each stage's own cost.

    Raises:
        UserError: all budgets are below the first stage's cost.
    """
    budgets = budgets or Budgets()
    in_ms = budgets.currency == "latency"
    costs = np.array([row.network_ms if in_ms else float(row.mul_adds) for row in rows])
    budgets.check(costs[0])
    rankings = [evaluation.rankings[row.exit] for row in rows]
    rank1 = np.array([ranking.rank1 for ranking in rankings])
    found = []
    for s, (row, ranking) in enumerate(zip(rows, rankings, strict=True)):
        budget = float(np.clip(costs[s], budgets.low, budgets.high))
        reached = mixture(costs, rank1, budget)
        others = mixture(np.delete(costs, s), np.delete(rank1, s), budget)
        taken = (row.exit, row.mul_adds, row.network_ms, ranking.rank1, ranking.mAP)
        found.append(StageWorth(*taken, budget, reached, others))
    return found


def mixture(costs: np.ndarray, gains: np.ndarray, budget: float) -> float:
    """The most that exits at random at one of two stages reach, at `budget` on average.

    No answer, at no cost, is a stage, so that the first one has to pay, too.

    Args:
        costs: (S,) ascending.
        gains: (S,) accuracies.
    """
    x, y = np.concatenate([[0.0], costs]), np.concatenate([[0.0], gains])
    best = float(y[x <= budget].max())  # one alone
    for low in np.flatnonzero(x <= budget):
        for high in np.flatnonzero(x > budget):
            pair = [low, high]
            best = max(best, float(mixed_shares(x[pair], budget) @ y[pair]))
    return best
