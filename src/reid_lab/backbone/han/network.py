"""The Harmonious Attention Network (Li, Zhu and Gong): a global and a local branch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone.han.attention import (
    HardAttention,
    SoftAttention,
    boxes,
    crop,
    squeeze,
    strips,
)
from reid_lab.backbone.han.units import (
    ConvNorm,
    LocalNorm,
    Resampling,
    Size,
    Unit,
    global_block,
    local_unit,
)

STEM = 32  # channels of conv1
WIDTHS = (128, 256, 384)  # d1, d2, d3
REGIONS = 4  # T
CROP = (0.3, 0.875)  # 24x28 of conv1's 80x32, 12x14 of 40x16, 6x7 of 20x8


class Level(nn.Module):
    """One of the three levels: a block of each branch, and the attention between them.

    Args:
        crops: whether the local branch sees this level of the global branch; otherwise there are no
            regions.
        twice: resize crops to the map's size first, and align the corners of maps.
        norm: whether batch statistics in training are of all regions or of each region.
    """

    strips: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        unit: Unit,
        size: Size,
        spatial: bool,
        channel: bool,
        hard: bool,
        crops: bool,
        twice: bool,
        norm: LocalNorm,
    ) -> None:
        super().__init__()
        self.block = global_block(unit, size, inputs, outputs)
        self.soft = SoftAttention(outputs, spatial, channel, twice) if spatial or channel else None
        self.hard = HardAttention(outputs, REGIONS) if hard and crops else None
        self.local = local_unit(unit, inputs, outputs)
        self.crops, self.twice, self.norm = crops, twice, norm
        self.register_buffer("strips", strips(REGIONS), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """(N, C, H, W) -> attended (N, D, H/2, W/2), signature (N, D, 1, 1), soft weights."""
        x = self.block(x)
        signature = squeeze(x)
        if self.soft is None:
            return x, signature, None
        weights = self.soft(x, signature)
        return x * weights, signature, weights

    def centres(self, signature: Tensor) -> Tensor:
        """(N, D, 1, 1) -> (N, T, 2): the regions of hard attention, or the strips."""
        if self.hard is None:
            return self.strips.expand(signature.shape[0], -1, -1)
        result: Tensor = self.hard(signature)
        return result

    def streams(self, x: Tensor, signature: Tensor, before: Tensor | None) -> Tensor:
        """The T local streams, as one batch since they share weights. Equation 8.

        Args:
            x: this level's input, (N, C, H, W).
            before: output of the streams at the previous level, (N * T, C, h, w).
        """
        if not self.crops and before is not None:
            return self.shared(before)
        # the streams halve as they go, rounding up; the level before them gives the crop's size
        size = crop_size(x) if before is None else (before.shape[2], before.shape[3])
        cropped = self.cropped(x, self.centres(signature), size)
        return self.shared(cropped if before is None else cropped + before)

    def shared(self, x: Tensor) -> Tensor:
        """The local unit, whose weights and running statistics all T regions share."""
        result: Tensor
        if self.norm == "regions" and self.training:
            regions = x.unflatten(0, (-1, REGIONS)).unbind(1)  # each (N, C, h, w)
            result = torch.stack([self.local(region) for region in regions], 1).flatten(0, 1)
        else:
            result = self.local(x)
        return result

    def cropped(self, x: Tensor, centres: Tensor, size: tuple[int, int]) -> Tensor:
        """The T regions of the maps, (N, C, H, W) -> (N * T, C, h, w)."""
        if not self.twice:
            return crop(x, centres, size)
        regions = crop(x, centres, (x.shape[2], x.shape[3]))
        return F.interpolate(regions, size, mode="bilinear", align_corners=True)


class HarmoniousAttentionNetwork(nn.Module):
    """Images -> a global and a local feature; the parts of the attention can be switched off.

    Without soft attention, the output of a block is unchanged. Without hard attention, the local
    streams stay at the image's four strips, their initial regions; the local branch remains, so
    that the rows of table 9 differ in attention only. Without cross-attention interaction (table
    10), the streams start from regions of conv1, which both branches share, and no later maps of
    the global branch are added to them.

    Args:
        unit: type of the blocks; `size` applies to depthwise ones only.
        dim: dimension of the joint feature; each branch has half.
        resampling: `once`: bilinear, without corners aligned. `torchreid`: as in its HACNN, which
            resizes a crop to the map's size and then to the crop's, with corners aligned.
        local_norm: `pooled`: batch norm of the local streams over all regions of a batch.
            `regions`: over each region by itself, as in torchreid's HACNN. In evaluation both use
            the running statistics, which the regions share.

    Raises:
        ValueError: `dim` is odd.
    """

    def __init__(
        self,
        size: Size = "small",
        spatial: bool = True,
        channel: bool = True,
        hard: bool = True,
        cross_attention: bool = True,
        unit: Unit = "depthwise",
        dim: int = 1024,
        resampling: Resampling = "once",
        local_norm: LocalNorm = "pooled",
    ) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim={dim}: give an even number, of which each branch has half")
        self.conv1 = ConvNorm(3, STEM, 3, stride=2)
        inputs = (STEM, *WIDTHS[:-1])
        self.levels: Sequence[Level] = nn.ModuleList(  # type: ignore[assignment]
            Level(
                c,
                d,
                unit,
                size,
                spatial,
                channel,
                hard,
                crops=cross_attention or level == 0,
                twice=resampling == "torchreid",
                norm=local_norm,
            )
            for level, (c, d) in enumerate(zip(inputs, WIDTHS, strict=True))
        )
        self.global_fc = feature(WIDTHS[-1], dim // 2)
        self.local_fc = feature(REGIONS * WIDTHS[-1], dim // 2)

    def whole(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images (N, 3, H, W) -> the inputs of `parts`, and the global feature (N, dim / 2)."""
        x, seen = self.conv1(images), []
        for level in self.levels:
            attended, signature, _ = level(x)
            seen += [x, signature]
            x = attended
        return seen, self.global_fc(squeeze(x).flatten(1))

    def parts(self, seen: Sequence[Tensor]) -> Tensor:
        """Input and signature of each level, from `whole` -> the local feature (N, dim / 2)."""
        local: Tensor | None = None
        for level, x, signature in zip(self.levels, seen[::2], seen[1::2], strict=True):
            local = level.streams(x, signature, local)  # (N * T, C, h, w)
        result: Tensor = self.local_fc(squeeze(local).view(seen[0].shape[0], -1))  # type: ignore[arg-type]
        return result

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen, whole = self.whole(images)
        return whole, self.parts(seen)

    @torch.no_grad()
    def attention_maps(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """See `reid_lab.model.HAN.attention_maps`."""
        x, maps = self.conv1(images), []
        for level in self.levels:
            x, signature, weights = level(x)
            weights = torch.ones_like(x) if weights is None else weights.expand_as(x)
            regions = boxes(level.centres(signature)) if level.crops else x.new_zeros(len(x), 0, 4)
            maps.append((weights.mean(1), regions))
        return maps


def feature(inputs: int, outputs: int) -> nn.Sequential:
    """A branch's fully connected feature layer, with norm and ReLU like every other layer."""
    return nn.Sequential(
        nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)
    )


def crop_size(x: Tensor) -> tuple[int, int]:
    """The first level's (h, w) of a crop, 24x28 at 160x64 and in proportion elsewhere."""
    sides = (int(side) for side in x.shape[2:])  # TorchScript's tracer gives tensors
    height, width = (round(share * side) for share, side in zip(CROP, sides, strict=True))
    return max(height, 1), max(width, 1)
