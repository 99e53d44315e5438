"""`reid-lab cost --suggest-exits`: which stages of a backbone are worth a head.

A stage's accuracy is that of a linear probe of its average-pooled maps: the metric of KISSME, in
closed form, from some of the training people, on others that are held out. No network is trained
and no test image is read. A trained head is more accurate: compare stages with each other, not with
heads. A stage's cost is by a profile of this machine.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from reid_lab.backbone import Backbone
from reid_lab.budget.account import Counted, Effort, Subject, noise
from reid_lab.budget.allocator import keep_blocks
from reid_lab.budget.machine import find_device
from reid_lab.budget.profile import measure_profile
from reid_lab.budget.stream import mixed_shares
from reid_lab.classical.kissme import kissme
from reid_lab.classical.subspace import Subspace
from reid_lab.config.build import build_data, make
from reid_lab.config.check import ConfigError
from reid_lab.config.overrides import composed as overridden
from reid_lab.config.settings import check_settings
from reid_lab.cost import show
from reid_lab.dataset import ReidDataModule
from reid_lab.dataset.loading import ROLES
from reid_lab.dataset.transforms import normalise
from reid_lab.errors import UserError
from reid_lab.gallery.embed import Embedder
from reid_lab.results.rows import ProfileRow
from reid_lab.retrieval import Embeddings, Evaluation, Exit, Ids, evaluate
from reid_lab.run.run import prepare_torch, quiet

PEOPLE = 100  # to hold out where the config holds out none
FIT = 3000  # images of other people, from which the probe is computed
PCA = 200  # dimensions of the probe at most


@dataclass(frozen=True)
class StageWorth:
    """A stage: its cost, its accuracy, and that of random exits at the others at its cost."""

    name: str
    mul_adds: int
    milliseconds: float
    rank1: float
    mean_ap: float
    mixed: float

    @property
    def worth_a_head(self) -> bool:
        return self.rank1 > self.mixed


def suggest(args: Namespace) -> int:
    """Print a row a stage, and those that are worth a head.

    Raises:
        UserError: invalid overrides, or a checkpoint that was trained on all people.
    """
    if args.allocator == "keep":
        keep_blocks()
    cfg = overridden([*args.overrides])
    groups = ("dataset", "seed", "backbone")
    problems = [p for p in check_settings(cfg) if p.key.split(".")[0] in groups]
    if problems:
        raise ConfigError(problems)
    quiet()
    prepare_torch(cfg)
    device = find_device(args.device)
    backbone = _backbone(cfg, args).eval().to(device)
    trained = args.checkpoint is not None
    data = held_out(cfg, trained)
    with show.working():
        evaluation = evaluate_stages(backbone, data, device)
        rows = _profile(backbone, evaluation, data, args, device)
    show.stages(worths(rows, evaluation), data.benchmark.name, rows[0], trained)
    return 0


def _backbone(cfg: DictConfig, args: Namespace) -> Backbone:
    """That of a checkpoint, or of the config with its weights."""
    if args.checkpoint is None:
        made: Backbone = make(cfg, "backbone")
        return made
    backbone = getattr(Embedder.load(args.checkpoint, device="cpu").model, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise UserError(
            f"{args.checkpoint}: its method has no backbone with stages: give a run of dare, "
            "bot, pla or classifier, or a config without --checkpoint"
        )
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
    features = _features(backbone, data, data.val_dataloader(), device)
    ids, counts = Ids.of(data.eval_split("val")), _mul_adds(backbone, data, device)
    is_query = torch.from_numpy(data.roles("val") == ROLES.index("query"))
    q, g = is_query.nonzero().flatten(), (~is_query).nonzero().flatten()
    exits = {}
    for name, rows in features.items():
        people = known.pids > 0
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
    height, width = data.transforms.height, data.transforms.width
    counts = {}
    with FlopCounterMode(display=False) as counter:
        for name, _ in stage_features(backbone, torch.zeros(1, 3, height, width, device=device)):
            counts[name] = counter.get_total_flops() // 2
    return counts


def _profile(
    backbone: Backbone,
    evaluation: Evaluation,
    data: ReidDataModule,
    args: Namespace,
    device: torch.device,
) -> list[ProfileRow]:
    """The stages of one query at a time, by the same passes as a network's exits."""
    exits = evaluation.embeddings.exits
    size = (data.transforms.height, data.transforms.width)
    subject = Subject(
        "exit",
        lambda images: stage_features(backbone, images),
        lambda count: normalise(noise(count, size, device)),
        {
            name: Counted(exits[name].mul_adds, channels)
            for name, channels in zip(backbone.names, backbone.channels, strict=True)
        },
        backbone,
    )
    gallery = args.gallery or len(evaluation.embeddings.gallery)
    return measure_profile(subject, Effort(1, args.repeats, args.seconds), [1], gallery)


def worths(rows: Sequence[ProfileRow], evaluation: Evaluation) -> list[StageWorth]:
    """The stages in their order; costs are of the network."""
    costs = np.array([row.network_ms for row in rows])
    rankings = [evaluation.rankings[row.exit] for row in rows]
    rank1 = np.array([ranking.rank1 for ranking in rankings])
    return [
        StageWorth(row.exit, row.mul_adds, row.network_ms, ranking.rank1, ranking.mAP, mixed)
        for row, ranking, mixed in zip(rows, rankings, mixtures(costs, rank1), strict=True)
    ]


def mixtures(costs: np.ndarray, gains: np.ndarray) -> list[float]:
    """What the others reach at each one's cost, exiting at random at one of two of them.

    No answer, at no cost, is one of the others, so that the first stage has to pay, too.

    Args:
        costs: (S,) ascending.
        gains: (S,) accuracies.
    """
    found = []
    for s, cost in enumerate(costs):
        x = np.concatenate([[0.0], np.delete(costs, s)])
        y = np.concatenate([[0.0], np.delete(gains, s)])
        best = float(y[x <= cost].max())  # a cheaper one alone
        for low in np.flatnonzero(x <= cost):
            for high in np.flatnonzero(x > cost):
                pair = [low, high]
                best = max(best, float(mixed_shares(x[pair], float(cost)) @ y[pair]))
        found.append(best)
    return found
