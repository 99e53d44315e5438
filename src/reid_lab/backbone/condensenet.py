"""CondenseNet (Huang et al., CVPR 2018): a dense network whose 1x1 convolutions learn groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone.stages import Backbone
from reid_lab.backbone.weights import load_weights
from reid_lab.types import Count, Fraction, NonNegative

BLOCKS = (4, 6, 8, 10, 8)  # layers of the paper's ImageNet networks
GROWTH = (8, 16, 32, 64, 128)  # channels that a layer adds
BOTTLENECK = 4  # times the growth: outputs of a learned group convolution
LASSO_FLOOR = 1e-6  # under the root of the group lasso, where its slope would be infinite


class LearnedGroupConv(nn.Module):
    """A 1x1 convolution in which each group of outputs chooses its inputs in training.

    Section 3.1: training begins with all inputs. C - 1 times in its first half, each group drops
    1/C of its inputs, those with the smallest sum of absolute weights; the second half trains the
    rest. Output j belongs to group j mod G, so that the next group convolution mixes groups (the
    paper's permutation).

    In evaluation it is a group convolution on the chosen inputs. Before the last drop, these are
    the inputs that would remain if all others were dropped now, so that costs and exports are
    always those of the condensed network.

    Args:
        inputs, outputs: channels; multiples of `condense` and of `groups`.
        groups: G.
        condense: C; each group keeps inputs / C.
        iterations: length of the training in batches; like batch norm, the layer counts the batches
            that it sees.
    """

    kept: Tensor
    batches: Tensor
    chosen: Tensor
    condensed: Tensor

    def __init__(
        self, inputs: int, outputs: int, groups: int, condense: int, iterations: int
    ) -> None:
        super().__init__()
        self.groups, self.condense, self.iterations = groups, condense, iterations
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1, 1))
        self.register_buffer("kept", torch.ones(groups, inputs, dtype=torch.bool))
        self.register_buffer("batches", torch.tensor(0))
        index = torch.zeros(groups, inputs // condense, dtype=torch.long)
        self.register_buffer("chosen", index, persistent=False)
        rows = torch.zeros(outputs, inputs // condense, 1, 1)  # by group
        self.register_buffer("condensed", rows, persistent=False)
        self._seen: int | None = 0  # `batches`, read without waiting for a GPU; None: not yet
        self._drops = 0  # of those that are due

    def by_group(self) -> Tensor:
        """Weights (outputs / G, G, inputs), zero for dropped inputs."""
        inputs = self.weight.shape[1]
        return self.weight.view(-1, self.groups, inputs) * self.kept

    def lasso(self) -> Tensor:
        """Group lasso: norms of weights, summed over groups and inputs; 0 after the last drop."""
        if self._drops == self.condense - 1:
            return self.weight.new_zeros(())
        squares = self.by_group().square().sum(0)  # (G, inputs)
        total: Tensor = squares.clamp(min=LASSO_FLOOR).sqrt().sum()
        return total

    @torch.no_grad()
    def choose(self) -> None:
        """Choose inputs and weights for evaluation, when it begins and when weights are loaded."""
        norms = self.by_group().abs().sum(0).masked_fill(~self.kept, -1)
        count = self.chosen.shape[1]
        self.chosen = norms.topk(count).indices.sort().values
        self.condensed = self._condensed()

    def _condensed(self) -> Tensor:
        """Weights (outputs, inputs / C, 1, 1) of the chosen inputs, group by group."""
        rows = self.weight.view(-1, *self.kept.shape).transpose(0, 1)  # (G, outputs / G, inputs)
        index = self.chosen.unsqueeze(1).expand(-1, rows.shape[1], -1)
        return rows.gather(2, index).flatten(0, 1)[..., None, None]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def condense_step(self) -> None:
        """Count a training batch, and drop inputs if due."""
        if self._seen is None:
            self._seen = int(self.batches)
            self._drops = self._dropped()
        due = min(self.condense - 1, 2 * self._seen * (self.condense - 1) // self.iterations)
        if self._drops < due:
            share = self.weight.shape[1] // self.condense
            norms = self.by_group().abs().sum(0).masked_fill(~self.kept, torch.inf)
            lowest = norms.topk((due - self._drops) * share, largest=False).indices
            self.kept.scatter_(1, lowest, False)
            self._drops = due
        self._seen += 1
        self.batches += 1

    def _dropped(self) -> int:
        return int((~self.kept[0]).sum()) // self.chosen.shape[1]

    def train(self, mode: bool = True) -> LearnedGroupConv:
        super().train(mode)
        if not mode:
            self.choose()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._seen = None
        self.choose()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, outputs, h, w)."""
        if self.training:
            self.condense_step()
            return F.conv2d(x, self.by_group().view_as(self.weight))
        learning = torch.is_grad_enabled() and self.weight.requires_grad
        weight = self._condensed() if learning else self.condensed
        grouped = F.conv2d(x.index_select(1, self.chosen.flatten()), weight, groups=self.groups)
        shuffled: Tensor = grouped.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        return shuffled


class DenseLayer(nn.Module):
    """Norm, ReLU, learned 1x1, norm, ReLU, 3x3 in groups; its outputs follow its inputs."""

    def __init__(
        self, inputs: int, growth: int, groups: int, condense: int, iterations: int, dropout: float
    ) -> None:
        super().__init__()
        middle = BOTTLENECK * growth
        self.layers = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.Dropout(dropout)),
            LearnedGroupConv(inputs, middle, groups, condense, iterations),
            *(nn.BatchNorm2d(middle), nn.ReLU(inplace=True)),
            nn.Conv2d(middle, growth, 3, padding=1, groups=groups, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


class CondenseNet(Backbone):
    """CondenseNet-74 of the paper's ImageNet table: 274 M operations at 224x224 with G = C = 8.

    Five dense blocks, each with twice the growth of the one before, with only a pool in between.
    Stage 1 has the first two blocks and ends at 1/4; stages 2 to 4 have one each, down to 1/32.
    There are no published weights that a package provides: train it from scratch.

    Args:
        groups: G, of the 3x3 convolutions and of the learned 1x1 ones; up to 8.
        condense: C; 1/C of the inputs of a learned convolution remain; up to 8.
        iterations: length of the training in batches; inputs are dropped in its first half.
        dropout: dropout in front of the learned convolutions, as in the authors' ImageNet training.
        lasso: weight of the group lasso, which is added to the losses until the last drop.
        weights: None for scratch, or the path of a checkpoint of this suite with this backbone. A
            condensed one stays condensed.

    Raises:
        ValueError: `groups` or `condense` is not 1, 2, 4 or 8.
        WeightsError: the weights cannot be loaded.
    """

    def __init__(
        self,
        groups: Count = 8,
        condense: Count = 8,
        iterations: Count = 121_200,
        dropout: Fraction = 0.1,
        lasso: NonNegative = 1e-5,
        weights: str | Path | None = None,
    ) -> None:
        for name, value in (("groups", groups), ("condense", condense)):
            if value not in (1, 2, 4, 8):
                raise ValueError(f"{name}={value}: CondenseNet has channels for 1, 2, 4 or 8")
        width = 2 * GROWTH[0]
        blocks: list[nn.Sequential] = []
        channels = []
        for layers, growth in zip(BLOCKS, GROWTH, strict=True):
            block = nn.Sequential(nn.AvgPool2d(2, 2)) if blocks else nn.Sequential()
            for _ in range(layers):
                block.append(DenseLayer(width, growth, groups, condense, iterations, dropout))
                width += growth
            blocks.append(block)
            channels.append(width)
        first, second, *others = blocks
        stem = nn.Conv2d(3, 2 * GROWTH[0], 3, 2, 1, bias=False)
        others[-1].extend([nn.BatchNorm2d(width), nn.ReLU(inplace=True)])
        parts = [nn.Sequential(stem, *first, *second), *others]
        stages: dict[str, nn.Module] = {f"stage{s}": part for s, part in enumerate(parts, 1)}
        super().__init__(stages, tuple(channels[1:]))
        self.lasso = lasso
        self.learned = [m for m in self.modules() if isinstance(m, LearnedGroupConv)]
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d | LearnedGroupConv):
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        load_weights(self, weights, None)

    def penalties(self) -> dict[str, Tensor]:
        if self.lasso == 0:
            return {}
        return {"lasso": self.lasso * torch.stack([c.lasso() for c in self.learned]).sum()}
