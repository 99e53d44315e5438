"""Harmonious attention (HAN, section 3.2): soft on pixels and channels, hard on regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_lab.backbone.han.units import ConvNorm

REDUCTION = 16  # r of equation 6


def squeeze(x: Tensor) -> Tensor:
    """The channel signature, (N, C, H, W) -> (N, C, 1, 1). Equation 5."""
    return x.mean((2, 3), keepdim=True)


class SpatialAttention(nn.Module):
    """One map for all channels, (N, C, H, W) -> (N, 1, H, W). Figure 2b, equation 4."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.conv = ConvNorm(1, 1, 3, stride=2)
        self.scale = ConvNorm(1, 1)
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        coarse = self.conv(x.mean(1, keepdim=True))  # (N, 1, H/2, W/2)
        resized = F.interpolate(
            coarse, x.shape[2:], mode="bilinear", align_corners=self.align_corners
        )
        result: Tensor = self.scale(resized)
        return result


class ChannelAttention(nn.Sequential):
    """One weight per channel of the signature, (N, C, 1, 1) -> (N, C, 1, 1). Equation 6."""

    def __init__(self, channels: int) -> None:
        mid = channels // REDUCTION
        super().__init__(ConvNorm(channels, mid), ConvNorm(mid, channels))


class SoftAttention(nn.Module):
    """Weights of 0.5 to 1: sigmoid(ReLU(1x1 conv(spatial * channel))). Figure 2a, equation 3.

    A factor that is off is 1; at least one must be on. Without the spatial factor all pixels have
    the same weights, which are computed once.
    """

    def __init__(
        self,
        channels: int,
        spatial: bool = True,
        channel: bool = True,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.spatial = SpatialAttention(align_corners) if spatial else None
        self.channel = ChannelAttention(channels) if channel else None
        self.blend = ConvNorm(channels, channels)

    def forward(self, x: Tensor, signature: Tensor) -> Tensor:
        """(N, C, H, W) and its signature -> weights (N, C, H, W), or (N, C, 1, 1)."""
        factor = self.channel(signature) if self.channel is not None else torch.ones_like(signature)
        if self.spatial is not None:
            factor = self.spatial(x) * factor
        result: Tensor = self.blend(factor).sigmoid()
        return result


class HardAttention(nn.Module):
    """Predicts the centres of T regions, as (x, y) from -1 to 1. Figure 2d, equation 7.

    Initially these are T horizontal strips of every image: the weights are zero, and tanh of the
    bias gives the strips' centres.
    """

    def __init__(self, channels: int, regions: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, 2 * regions)
        nn.init.zeros_(self.fc.weight)
        with torch.no_grad():
            self.fc.bias.copy_(torch.atanh(strips(regions)).flatten())

    def forward(self, signature: Tensor) -> Tensor:
        """(N, C, 1, 1) -> (N, T, 2), float32."""
        result: Tensor = torch.tanh(self.fc(signature.flatten(1)).float()).unflatten(1, (-1, 2))
        return result


def strips(regions: int) -> Tensor:
    """The centres (T, 2) of T horizontal strips that share the image, top to bottom."""
    y = (2 * torch.arange(regions) + 1) / regions - 1
    return torch.stack([torch.zeros(regions), y], 1)


def crop(x: Tensor, centres: Tensor, size: tuple[int, int]) -> Tensor:
    """Regions as wide as the image and 1/T as high, resized: (N, C, H, W) -> (N * T, C, h, w).

    The translation and scaling of equation 7, with both scales fixed: one bilinear sample per
    pixel, with the image's borders at -1 and 1, and zero outside, as in `F.grid_sample` (zeros,
    `align_corners=False`).

    Args:
        centres: (N, T, 2) as (x, y), -1 to 1.
        size: (h, w) of a crop.
    """
    regions, (height, width) = centres.shape[1], size
    down = _along(height, centres[..., 1], 1 / regions)  # (N, T, h)
    right = _along(width, centres[..., 0], 1)  # (N, T, w)
    return sample_by_grid(x, down, right) if x.is_cuda else sample_from_table(x, down, right)


def sample_by_grid(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Samples of (N, C, H, W) at heights (N, T, h) and widths (N, T, w) -> (N * T, C, h, w)."""
    (_, regions, height), width = down.shape, right.shape[2]
    positions = (
        right[:, :, None].expand(-1, -1, height, -1),
        down[..., None].expand(-1, -1, -1, width),
    )
    grid = torch.stack(positions, -1).flatten(1, 2)  # (N, T * h, w, 2)
    # in the precision of the positions, for which bf16 is too coarse
    sampled: Tensor = F.grid_sample(x.to(grid.dtype), grid, align_corners=False)
    crops: Tensor = sampled.to(x.dtype).unflatten(2, (regions, height))  # (N, C, T, h, w)
    return crops.transpose(1, 2).flatten(0, 1)


def sample_from_table(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Like `sample_by_grid`, but on the CPU in a fraction of its time.

    A sample is a weighted sum of four rows of the table of all pixels, that is, an embedding bag.
    """
    images, channels, rows, columns = x.shape
    height, width = down.shape[2], right.shape[2]
    top, share_y = _taps(down, rows)  # (N, T, h, 2)
    left, share_x = _taps(right, columns)  # (N, T, w, 2)
    first = rows * torch.arange(images, device=x.device).view(-1, 1, 1, 1)
    at = ((top + first) * columns)[:, :, :, None, :, None] + left[:, :, None, :, None]
    share = share_y[:, :, :, None, :, None] * share_x[:, :, None, :, None]  # (N, T, h, w, 2, 2)
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
    shares = share.reshape(-1, 4).to(x.dtype)
    sampled = F.embedding_bag(at.reshape(-1, 4), pixels, per_sample_weights=shares, mode="sum")
    return sampled.view(-1, height, width, channels).permute(0, 3, 1, 2)  # channels last


def boxes(centres: Tensor) -> Tensor:
    """Centres (N, T, 2) -> (N, T, 4) as left, top, right, bottom in fractions of the image."""
    half = torch.tensor([0.5, 0.5 / centres.shape[1]], device=centres.device)
    middle = (centres + 1) / 2
    return torch.cat([middle - half, middle + half], -1)


def _along(count: int, centre: Tensor, scale: float) -> Tensor:
    """Positions of `count` samples on a side from -1 to 1: centres (N, T) -> (N, T, count)."""
    samples = (2 * torch.arange(count, dtype=centre.dtype, device=centre.device) + 1) / count - 1
    return samples * scale + centre[..., None]


def _taps(position: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The two of `length` pixels beside each position and their shares, (..., 2) each.

    A pixel outside has the share 0 and the index of a pixel inside.
    """
    at = ((position + 1) * length - 1) / 2
    pixels = torch.stack([at.floor(), at.floor() + 1], -1)
    inside = (pixels >= 0) & (pixels < length)
    return pixels.long().clamp(0, length - 1), (1 - (at[..., None] - pixels).abs()) * inside
