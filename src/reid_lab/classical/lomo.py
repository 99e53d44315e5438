"""LOMO features, Local Maximal Occurrence (Liao, Hu, Zhu and Li, CVPR 2015, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_lab.classical.histogram import rgb_to_hsv
from reid_lab.classical.retinex import POINTWISE_MUL_ADDS, Reading, blur_mul_adds, retinex

HEIGHT, WIDTH = 128, 48
LEVELS = 3  # levels of the pyramid
CELL = 5  # pixels; windows are 2 x 2 cells (10 x 10 pixels), one cell apart
BINS = 8  # bins each of hue, saturation and value
RADII, TAU = (3, 5), 0.3  # SILTP^tau_{4,R}
NEIGHBOURS = 4
PATTERNS = 3**NEIGHBOURS
CHUNK = 32  # images at once: their counts fit into the CPU's cache


def siltp(gray: Tensor, radius: int, tau: float = TAU) -> Tensor:
    """Compute scale invariant local ternary patterns (Liao et al., CVPR 2010).

    The code of a pixel has one ternary digit for each neighbour at distance `radius` to the right,
    above, to the left and below: 1 if darker than (1 - tau) times the pixel, 2 if lighter than
    (1 + tau) times the pixel, else 0. Borders are replicated.

    Args:
        gray: (N, H, W). float64, as in MATLAB: in float32, bounds are rounded across neighbours
            that equal them.

    Returns:
        (N, H, W) int64 codes, 0 to 80.
    """
    height, width = gray.shape[1:]
    padded = F.pad(gray, (radius,) * 4, mode="replicate")
    dark, light = (1 - tau) * gray, (1 + tau) * gray
    codes = torch.zeros(gray.shape, dtype=torch.uint8, device=gray.device)
    for digit, (down, right) in enumerate([(0, 1), (-1, 0), (0, -1), (1, 0)]):
        top, left = radius * (1 + down), radius * (1 + right)
        beside = padded[:, top : top + height, left : left + width]
        codes += 3**digit * ((beside < dark) + 2 * (beside > light).to(torch.uint8))
    return codes.long()


def window_maxima(codes: Tensor, bins: int) -> Tensor:
    """Count codes in windows, and take the maximum over each row of windows (section 3.2).

    Windows are 10 x 10 pixels, 5 apart. Pixels right of or below the last window are ignored.

    Args:
        codes: (N, H, W), below `bins`.

    Returns:
        (N, (H // 5 - 1) * bins) uint8.
    """
    n, rows, columns = len(codes), codes.shape[1] // CELL, codes.shape[2] // CELL
    codes = codes[:, : rows * CELL, : columns * CELL]
    down, right = (torch.arange(k * CELL, device=codes.device) // CELL for k in (rows, columns))
    cell = (down[:, None] * columns + right) * bins + codes  # (N, H, W)
    counts = torch.zeros(n, rows * columns * bins, dtype=torch.uint8, device=codes.device)
    cell = cell.flatten(1)
    counts.scatter_add_(1, cell, torch.ones_like(cell, dtype=torch.uint8))
    cells = counts.view(n, rows, columns, bins)
    windows = cells[:, :-1] + cells[:, 1:]  # at most 100 pixels: no overflow
    return (windows[:, :, :-1] + windows[:, :, 1:]).amax(2).flatten(1)


def halve(images: Tensor) -> Tensor:
    """Average 2 x 2 pixels: (N, C, H, W) -> (N, C, H // 2, W // 2)."""
    return F.avg_pool2d(images, 2)


def gray_of(images: Tensor) -> Tensor:
    """Compute luma: uint8 (N, 3, H, W) RGB -> float64 (N, H, W), whole numbers 0 to 255."""
    r, g, b = images.double().unbind(1)
    return (0.2989 * r + 0.5870 * g + 0.1140 * b).round()


class Lomo:
    """HSV and SILTP histograms of windows, maxima over each row of windows: 26,960 numbers.

    Images of another size are first resized to 128 x 48. As in the authors' release, Retinex is
    applied for colour, not for texture; on the upper levels of the pyramid, HSV bins are averaged
    and rounded down; counts c become log(1 + c); the features of colour and of each radius are
    scaled to unit length, and the descriptor's length is sqrt(3).

    Args:
        retinex: reading of the colour correction: "release", "deviations" or "none", see
            `reid_lab.classical.retinex`.
    """

    dim = (BINS**3 + len(RADII) * PATTERNS) * sum(
        (HEIGHT >> level) // CELL - 1 for level in range(LEVELS)
    )

    def __init__(self, retinex: Reading = "deviations") -> None:
        self.retinex = retinex

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features: uint8 (N, 3, H, W) RGB -> float32 (N, 26960).

        Raises:
            ValueError: the images are not uint8 (N, 3, H, W).
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            given = f"{images.dtype} {tuple(images.shape)}"
            raise ValueError(f"LOMO expects uint8 (N, 3, H, W) images, not {given}")
        features = torch.empty(len(images), self.dim, device=images.device)
        for part, out in zip(images.split(CHUNK), features.split(CHUNK), strict=True):
            out[:] = self._describe(_resized(part))
        return features

    def _describe(self, images: Tensor) -> Tensor:
        gray = (gray_of(images) / 255)[:, None]
        bins = (rgb_to_hsv(retinex(images, self.retinex)) * BINS).floor().clamp(max=BINS - 1)
        parts: list[list[Tensor]] = [[] for _ in range(1 + len(RADII))]
        for level in range(LEVELS):
            if level:
                gray, bins = halve(gray), halve(bins).floor()
            h, s, v = bins.long().unbind(1)
            parts[0].append(window_maxima((v * BINS + s) * BINS + h, BINS**3))
            for part, radius in zip(parts[1:], RADII, strict=True):
                part.append(window_maxima(siltp(gray[:, 0], radius), PATTERNS))
        return torch.cat([F.normalize(torch.cat(p, 1).float().log1p(), dim=1) for p in parts], 1)

    def mul_adds(self, height: int, width: int) -> int:
        """Return the Mul-Adds of an image: Retinex's matrix products, and the rest estimated."""
        blurs = blur_mul_adds(HEIGHT, WIDTH, self.retinex)
        return blurs + self.estimated_mul_adds(height, width)

    def estimated_mul_adds(self, height: int, width: int) -> int:
        """Estimate the Mul-Adds without matrix products; a multiplication or logarithm is one.

        Each pixel: POINTWISE_MUL_ADDS of Retinex, 6 for HSV and its bins, 3 for gray; on each level
        of the pyramid 4 for pooling, and for each radius 2 for SILTP's bounds and 4 for the code.
        Each feature: logarithm, square and scaling. Resizing: 4 per pixel and colour. Counting,
        comparing and maxima have no multiplications.
        """
        pixels = HEIGHT * WIDTH
        pyramid = sum(pixels >> 2 * level for level in range(LEVELS))
        resizing = 0 if (height, width) == (HEIGHT, WIDTH) else 12 * pixels
        pointwise = (POINTWISE_MUL_ADDS[self.retinex] + 9) * pixels
        pooled = (4 + (2 + 4) * len(RADII)) * pyramid
        result: int = pointwise + pooled + 3 * self.dim + resizing
        return result


def _resized(images: Tensor) -> Tensor:
    if images.shape[-2:] == (HEIGHT, WIDTH):
        return images
    size = (HEIGHT, WIDTH)
    resized = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
