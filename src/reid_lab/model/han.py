"""HAN, Harmonious Attention Network (Li, Zhu and Gong)."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone.han import HarmoniousAttentionNetwork, LocalNorm, Resampling, Size, Unit
from reid_lab.dataset.datamodule import data_of
from reid_lab.model.base import Outputs, State
from reid_lab.model.classifier import required
from reid_lab.model.sgd import Optimiser, SgdRecipe
from reid_lab.model.triplets import check_pk_batches
from reid_lab.types import Count, Fraction, LearningRate, Milestones, NonNegative, Units

BRANCHES = ("global", "local")


class HAN(SgdRecipe):
    """A global and a local branch that attend to the same image, with one loss each.

    Exits: `global`, `local`, each L2-normalised at evaluation, and `joint`, both of them (section
    3.4). Costs are cumulative: the local branch uses the global one's attention. The paper's model
    is `joint`; queries exit at `global` or at `joint`.

    Args:
        identities: number of classes; null in a config takes the data set's. Needed
            where cross-entropy is in the objective.
        loss: (embeddings (N, D), pids (N,)) -> scalar, the objective's triplet loss. It acts on
            the L2-normalised features of PK batches.
        size: size of the network (table 1), for depthwise units only.
        spatial: soft attention on pixels, SSA. For the effect of switching off this or the next
            two (table 9), see `HarmoniousAttentionNetwork`.
        channel: soft attention on channels, SCA.
        hard: attention on regions, HRA.
        cross_attention: the local branch sees the global one's maps, CAIL (equation 8, table 10).
        objective: losses of the training (table 11). Triplets need PK batches
            (`dataset.batch_size=null`).
        unit: building block (table 12).
        dim: dimension of the joint feature; each branch has half (figure 6).
        resampling: `once`, or `torchreid`: maps and crops are resized as by its HACNN.
        local_norm: `pooled`, or `regions`: each region is normalised separately in training, as by
            torchreid's HACNN. The paper does not say.
        hard_lr: learning rate of hard attention, as a fraction of `lr`, as in spatial transformers
            (Jaderberg et al. 2015, 0.1 to 1e-4). The paper gives no value; with 1,
            the regions move into the image's corners within tens of steps and stay there, where
            tanh saturates.
        lr, momentum, weight_decay, iterations, milestones, epoch: see `SgdRecipe`;
            section 4. The default is 300 epochs of Market-1501 in batches of 32.
        smoothing: label smoothing of the cross-entropy; the paper names none.
        optimiser: see `SgdRecipe`; the paper has sgd.

    Raises:
        ValueError: no `identities` for cross-entropy, or an odd `dim`.
        SettingError: triplets without PK batches, before the first one.
    """

    exit_names = (*BRANCHES, "joint")
    stream_exits = ("global", "joint")

    def __init__(
        self,
        identities: Count | None,
        loss: nn.Module,
        size: Size = "small",
        spatial: bool = True,
        channel: bool = True,
        hard: bool = True,
        cross_attention: bool = True,
        objective: Literal["cross_entropy", "triplet", "both"] = "cross_entropy",
        unit: Unit = "depthwise",
        dim: Units = 1024,
        resampling: Resampling = "once",
        local_norm: LocalNorm = "pooled",
        hard_lr: Fraction = 0.01,
        lr: LearningRate = 3e-2,
        momentum: Fraction = 0.9,
        weight_decay: NonNegative = 5e-4,
        iterations: Count = 121_200,
        milestones: Milestones = (100, 200, 250),
        epoch: Count | None = 404,
        smoothing: Fraction = 0.0,
        optimiser: Optimiser = "sgd",
    ) -> None:
        schedule = (iterations, milestones, epoch)
        super().__init__(lr, momentum, weight_decay, *schedule, optimiser=optimiser)
        self.smoothing = smoothing
        self.network = HarmoniousAttentionNetwork(
            size, spatial, channel, hard, cross_attention, unit, dim, resampling, local_norm
        )
        self.hard_lr = hard_lr
        self.triplet = None if objective == "cross_entropy" else loss
        classified = BRANCHES if objective != "triplet" else ()
        self.classifiers = nn.ModuleList(  # equation 1: no bias
            nn.Linear(dim // 2, required(identities), bias=False) for _ in classified
        )

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.triplet is not None:
            check_pk_batches(data_of(self.trainer))

    @property
    def compilable(self) -> list[nn.Module]:
        return [self.network.conv1, *self.network.levels, *(u.local for u in self.network.levels)]

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        if exit == "global":
            seen, feature = self.network.whole(*state)
            whole = F.normalize(feature)  # (N, dim / 2)
            return (*seen, whole), whole
        if exit == "local":
            *seen, whole = state
            local = F.normalize(self.network.parts(seen))  # (N, dim / 2)
            return (whole, local), local
        return (), torch.cat(state, 1)  # (N, dim)

    def outputs(self, images: Tensor) -> Outputs:
        """Classifiers get the raw features, exits the L2-normalised ones."""
        features = dict(zip(BRANCHES, self.network(images), strict=True))
        exits = {branch: F.normalize(feature) for branch, feature in features.items()}
        classifiers = zip(BRANCHES, self.classifiers, strict=False)
        logits = {branch: classifier(features[branch]) for branch, classifier in classifiers}
        return Outputs({**exits, "joint": torch.cat(list(exits.values()), 1)}, logits)

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Section 3.1: cross-entropy and triplet loss of each branch separately."""
        losses = {
            branch: F.cross_entropy(logits, batch["label"], label_smoothing=self.smoothing)
            for branch, logits in outputs.logits.items()
        }
        if self.triplet is not None:
            (pids,) = self.gather(batch["pid"])
            for branch in BRANCHES:
                rows = self.gather(outputs.exits[branch])
                losses[f"{branch}_triplet"] = self.triplet(*rows, pids)
        return losses

    def parameter_groups(self) -> list[dict[str, list[nn.Parameter]]]:
        named = list(self.named_parameters())
        return [
            {"params": [p for name, p in named if (".hard." in name) is hard]}
            for hard in (False, True)
        ]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.trainer.optimizers[0].param_groups[1]["lr"] *= self.hard_lr

    def attention_maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Figure 7: images (N, 3, H, W) -> (soft, boxes) of each level; no gradients.

        soft (N, h, w) is the mean weight over channels, 0.5 to 1 (1 where soft attention is off).
        boxes (N, T, 4) are left, top, right, bottom in fractions of the image, and may reach beyond
        it; a level without regions has none (N, 0, 4).
        """
        return self.network.attention_maps(images)
