"""PLA, the Progressive Learning Algorithm: its network and its loss (Li et al.)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone import Backbone
from reid_lab.dataset.datamodule import ReidDataModule, data_of
from reid_lab.loss import GeneralisedBatchHard
from reid_lab.model.base import Outputs, State
from reid_lab.model.classifier import required
from reid_lab.model.trinet import TriNetRecipe
from reid_lab.model.triplets import SettingError, check_pk_batches
from reid_lab.search import Setting
from reid_lab.types import Count, Fraction, LearningRate, Margin, NonNegative, Units


class PLA(TriNetRecipe):
    """Two heads on one network: a triplet loss on one, cross-entropy on the other.

    Exit: `embedding`, the concatenated outputs of the heads (section 3.1).

    Trains with one setting (`triplet_weight`, `margin`, `k`, `p`), or the holistic schedule of
    section 3.3 where `k` is a list; the search callback changes all four.

    Args:
        backbone: network with named stages.
        identities: number of classes; null in a config takes the data set's. Needed where
            cross-entropy is in the objective.
        objective: both, or one loss on a single head of `dim` (section 4.3).
        dim: dimension of the embedding; each of the two heads has half.
        pool: pooling of the last maps: `max` as in section 4.3, `avg`, or `both`, their sum.
        head: layers behind a head's 1x1 convolution. `bare`: nothing, as figure 2 shows it; its
            classifier learns more slowly. `bn`: batch norm; `bn_relu`: with
            ReLU, as in the multi-branch networks that the paper compares with. `neck`: batch norm
            without a shift in front of the classifier; the triplet head stays bare.
        triplet_weight: lambda of equation 5, the weight of the triplet loss.
        margin, p: see `GeneralisedBatchHard`.
        k: see `GeneralisedBatchHard`; a list of k: one after the other, in equal parts of the
            training.
        lr, iterations, decay_from: see `TriNetRecipe`; equation 10 is the same schedule, with
            e0 = 150 and e1 = 300 epochs of 102 batches (Market-1501). Under the search they are
            those of an exploitation, and each phase starts the schedule afresh.

    Raises:
        ValueError: no `identities` for cross-entropy, an odd `dim`, or no k.
        SettingError: a k or p that the batches do not hold, before the first one.
    """

    exit_names = ("embedding",)
    unstated = {"pool": "max", "head": "bare"}
    renamed = {"weight": "triplet_weight"}
    loss: GeneralisedBatchHard

    def __init__(
        self,
        backbone: Backbone,
        identities: Count | None = None,
        objective: Literal["both", "triplet", "cross_entropy"] = "both",
        dim: Units = 2048,
        pool: Literal["max", "avg", "both"] = "max",
        head: Literal["bare", "bn", "bn_relu", "neck"] = "bn",
        triplet_weight: NonNegative = 1.0,
        margin: Margin = 0.0,
        k: Count | Sequence[Count] = 1,
        p: Count = 1,
        lr: LearningRate = 3e-4,
        iterations: Count = 30_600,
        decay_from: Fraction = 0.5,
    ) -> None:
        self.ks = (k,) if isinstance(k, int) else tuple(k)
        if not self.ks:
            raise ValueError("k=[]: give a k, or a list of them")
        super().__init__(GeneralisedBatchHard(self.ks[0], p, margin), lr, iterations, decay_from)
        names = ("triplet", "cross_entropy") if objective == "both" else (objective,)
        if dim % len(names):
            raise ValueError(f"dim={dim}: give a multiple of {len(names)}, the number of heads")
        self.backbone = backbone
        self.pool = nn.Sequential(POOLS[pool](), nn.Flatten())
        channels, width = backbone.channels[-1], dim // len(names)
        self.heads = nn.ModuleDict({name: make_head(head, name, channels, width) for name in names})
        if "cross_entropy" in names:
            self.classifier = nn.Linear(width, required(identities), bias=head != "neck")
        self.triplet_weight, self.decay_from = triplet_weight, decay_from
        self.started = 0  # step at which this phase began

    @property
    def compilable(self) -> list[nn.Module]:
        return [*self.backbone.stages.values(), *self.heads.values()]

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.searchable:
            check_hardness("model", max(self.ks), self.loss.p, data_of(self.trainer))

    @property
    def searchable(self) -> bool:
        """Whether the objective has a triplet loss, whose settings can be searched."""
        return "triplet" in self.heads

    @property
    def fixed(self) -> dict[str, float]:
        """Settings that a search keeps fixed: lambda, if it would scale the whole loss."""
        return {} if "cross_entropy" in self.heads else {"triplet_weight": 1.0}

    def begin(self, setting: Setting, start: int, length: int) -> None:
        """Apply a setting, and run the schedule from step `start` on, over `length` steps."""
        self.triplet_weight, self.loss.margin, self.loss.k, self.loss.p = setting
        self.ks = (setting.k,)
        self.started, self.t0, self.t1 = start, self.decay_from * length, length

    def schedule(self, step: int) -> tuple[float, float]:
        """Equation 10 and beta1, counted from the start of the phase."""
        return super().schedule(step - self.started)

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        pooled = self.pool(self.backbone(*state))  # (N, channels)
        return (), torch.cat([head(pooled) for head in self.heads.values()], 1)  # (N, dim)

    def outputs(self, images: Tensor) -> Outputs:
        exits = self(images)
        parts = self._parts(exits["embedding"])
        if "cross_entropy" not in parts:
            return Outputs(exits, {})
        return Outputs(exits, {"embedding": self.classifier(parts["cross_entropy"])})

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Equation 5: cross-entropy, and lambda times the generalised batch-hard loss."""
        losses = {}
        if outputs.logits:
            losses["cross_entropy"] = F.cross_entropy(outputs.logits["embedding"], batch["label"])
        if "triplet" in self.heads:
            self.loss.k = self._k()
            rows = self._parts(outputs.exits["embedding"])["triplet"]
            losses["triplet"] = self.triplet_weight * self.loss(*self.gather(rows, batch["pid"]))
        return losses

    def _parts(self, embedding: Tensor) -> dict[str, Tensor]:
        """Objective -> its head's part of the embedding."""
        return dict(zip(self.heads, embedding.chunk(len(self.heads), 1), strict=True))

    def _k(self) -> int:
        if len(self.ks) == 1:
            return self.ks[0]
        return self.ks[min(int(self.global_step * len(self.ks) / self.t1), len(self.ks) - 1)]


class MaxAvgPool(nn.Module):
    """The sum of global max and average pooling: maps (N, C, H, W) -> (N, C, 1, 1)."""

    def forward(self, maps: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(maps, 1) + F.adaptive_avg_pool2d(maps, 1)


POOLS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: nn.AdaptiveMaxPool2d(1),
    "avg": lambda: nn.AdaptiveAvgPool2d(1),
    "both": MaxAvgPool,
}


def make_head(kind: str, name: str, channels: int, width: int) -> nn.Module:
    """A head, pooled maps (N, channels) -> (N, width), by its `kind` and its objective's `name`.

    A 1x1 convolution of maps pooled to 1x1 is a linear layer.
    """
    if kind == "bare" or (kind == "neck" and name == "triplet"):
        return nn.Linear(channels, width)
    norm = nn.BatchNorm1d(width)
    if kind == "neck":
        norm.bias.requires_grad_(False)
    relu = [nn.ReLU(inplace=True)] if kind == "bn_relu" else []
    return nn.Sequential(nn.Linear(channels, width, bias=False), norm, *relu)


def check_hardness(key: str, k: int, p: int, data: ReidDataModule) -> None:
    """Check that PK batches hold a k-th positive and a p-th negative.

    Raises:
        SettingError: they do not; `key` is the config key of k and p.
    """
    check_pk_batches(data)
    if k > data.k:
        raise SettingError(
            f"{key}.k={k}, but a person has dataset.k={data.k} images in a batch, the anchor among "
            f"them: lower {key}.k or raise dataset.k"
        )
    negatives = (data.p - 1) * data.k
    if p > negatives:
        raise SettingError(
            f"{key}.p={p}, but an anchor has {negatives} negatives in a batch, "
            f"(dataset.p - 1) * dataset.k: lower {key}.p"
        )
