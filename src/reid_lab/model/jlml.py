"""JLML, Joint Learning Multi-Loss (Li, Zhu and Gong, IJCAI 2017)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone.jlml import JLMLResNet39, load_network
from reid_lab.loss.sparsity import exclusive_lasso, group_lasso
from reid_lab.model.base import Outputs, State
from reid_lab.model.classifier import required
from reid_lab.model.sgd import SgdRecipe
from reid_lab.types import Count, Fraction, LearningRate, Milestones, NonNegative, Positive, Units


class JLML(SgdRecipe):
    """A global and a local branch, each classifying the training people.

    Exits: `global`, `local`, and `joint`, the concatenation of both features without normalisation
    (section 2.3). Costs are cumulative: that of `local` includes the global branch, which it does
    not need. Queries exit at `global` or at `joint`.

    Args:
        identities: people to train on; in a config, null takes the data set's.
        loss: `multi`, a classifier and a loss for each branch; `uni`, one on the joint
            feature (table 10).
        shared_stem: one conv1 for both branches (table 11).
        global_sparsity, local_sparsity: weight of the branch's penalty, lambda of equation 5; 0
            switches it off (table 12).
        parts: strips of the local branch, m.
        dim: dimension of the joint feature; each branch has half.
        fc_std: standard deviation of the normal initialisation of the feature layers; None takes
            PyTorch's default. The local penalty then starts at 16, six times the cross-entropy
            over 751 people; with 0.01, customary in Caffe, it starts at 4, with 0.001 at 0.04.
            The paper gives no value.
        weights: a checkpoint of JLML to start from; the classifiers are new. None for scratch.
            Section 3: ImageNet, then CUHK03 + Market-1501 for the small data sets.
        lr, momentum, iterations, milestones, epoch: see `SgdRecipe`; table 4.
        weight_decay: not in the paper; 5e-4 is customary in Caffe.

    Raises:
        ValueError: no `identities`, or an odd `dim`.
        WeightsError: `weights` cannot be loaded, or belong to another network.
    """

    exit_names = ("global", "local", "joint")
    stream_exits = ("global", "joint")

    def __init__(
        self,
        identities: Count | None = None,
        loss: Literal["multi", "uni"] = "multi",
        shared_stem: bool = True,
        global_sparsity: NonNegative = 5e-4,
        local_sparsity: NonNegative = 5e-4,
        parts: Units = 4,
        dim: Units = 1024,
        fc_std: Positive | None = None,
        weights: str | None = None,
        lr: LearningRate = 0.01,
        momentum: Fraction = 0.9,
        weight_decay: NonNegative = 5e-4,
        iterations: Count = 50_000,
        milestones: Milestones = (20_000, 40_000),
        epoch: Count | None = None,
    ) -> None:
        super().__init__(lr, momentum, weight_decay, iterations, milestones, epoch)
        people = required(identities)
        self.network = JLMLResNet39(parts, dim, shared_stem)
        if fc_std is not None:
            for branch in (self.network.global_branch, self.network.local_branch):
                nn.init.normal_(branch.fc.weight, std=fc_std)
        if weights is not None:
            load_network(self.network, weights)
        classified = {"joint": dim} if loss == "uni" else {"global": dim // 2, "local": dim // 2}
        self.classified = tuple(classified)
        self.classifiers = nn.ModuleList(  # equation 3: no bias
            nn.Linear(d, people, bias=False) for d in classified.values()
        )
        self.global_sparsity, self.local_sparsity = global_sparsity, local_sparsity

    @property
    def compilable(self) -> list[nn.Module]:
        return [*self.network.children(), *self.classifiers]

    def step(self, exit: str, state: State) -> tuple[State, Tensor]:
        net = self.network
        if exit == "global":
            (images,) = state
            maps = net.stem(images)  # (N, 32, H/2, W/2)
            whole = net.global_branch(maps)  # (N, dim / 2)
            return (maps if net.local_stem is None else images, whole), whole
        if exit == "local":
            seen, whole = state
            strips = net.local_branch(seen if net.local_stem is None else net.local_stem(seen))
            return (whole, strips), strips
        return (), torch.cat(state, 1)  # (N, dim)

    def outputs(self, images: Tensor) -> Outputs:
        exits = self(images)
        classifiers = zip(self.classified, self.classifiers, strict=True)
        return Outputs(exits, {name: classifier(exits[name]) for name, classifier in classifiers})

    def objective(self, outputs: Outputs, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Equation 5 of both branches: cross-entropies and the feature-selecting penalties."""
        losses = {
            name: F.cross_entropy(logits, batch["label"]) for name, logits in outputs.logits.items()
        }
        return {**losses, **self._penalties()}

    def _penalties(self) -> dict[str, Tensor]:
        net, penalties = self.network, {}
        if self.global_sparsity:
            norm = group_lasso(net.global_branch.fc.weight)
            penalties["global_sparsity"] = self.global_sparsity * norm
        if self.local_sparsity:
            local = net.local_branch
            norm = exclusive_lasso(local.fc.weight, len(local.streams))
            penalties["local_sparsity"] = self.local_sparsity * norm
        return penalties
