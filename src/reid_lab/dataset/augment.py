"""What random numbers decide about one training image, and doing it to the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reid_lab.dataset.colour import Step, adjust

if TYPE_CHECKING:
    from reid_lab.dataset.images import Images

Area = tuple[int, int, int, int]  # top, left, bottom, right; empty when nothing is erased
Range = tuple[float, float]
EMPTY: Area = (0, 0, 0, 0)


@dataclass(frozen=True)
class Patch:
    """`source`, a box of the training image `image`, pasted with its corner at (top, left)."""

    image: int
    source: Area
    top: int
    left: int
    flip: bool


@dataclass(frozen=True)
class Augmentation:
    """One image's draw: where it is crop_batch, whether it is flipped, and what is done to it."""

    top: int
    left: int
    flip: bool
    erased: Area = EMPTY
    patch: Patch | None = None
    colour: tuple[Step, ...] = ()


def augment(images: Images, index: int, drawn: Augmentation, out: np.ndarray) -> None:
    """Image `index`, crop_batch, flipped, patched and recoloured, into `out` (3, H, W) uint8."""
    bottom, right = drawn.top + out.shape[1], drawn.left + out.shape[2]
    crop = images[index][:, drawn.top : bottom, drawn.left : right]
    out[...] = crop[:, :, ::-1] if drawn.flip else crop
    if drawn.patch is not None:
        paste(images, drawn.patch, out)
    if drawn.colour:
        out[...] = adjust(out, drawn.colour)


def paste(images: Images, patch: Patch, out: np.ndarray) -> None:
    """The patch onto `out` (3, H, W)."""
    top, left, bottom, right = patch.source
    piece = images[patch.image][:, top:bottom, left:right]
    rows = slice(patch.top, patch.top + bottom - top)
    columns = slice(patch.left, patch.left + right - left)
    out[:, rows, columns] = piece[:, :, ::-1] if patch.flip else piece


def draw_size(
    height: int, width: int, areas: Range, aspects: Range, rng: np.random.Generator
) -> tuple[int, int] | None:
    """(h, w) smaller than (height, width): a share of its area, h / w; None after 100 misses."""
    for _ in range(100):
        area = rng.uniform(*areas) * height * width
        aspect = rng.uniform(*aspects)
        h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < h < height and 0 < w < width:
            return h, w
    return None


def draw_place(
    height: int, width: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """(top, left) of a box of this size anywhere in (height, width)."""
    return int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1))


def draw_erased_area(height: int, width: int, rng: np.random.Generator) -> Area:
    """Zhong et al.: area 2 to 40 % of the image, aspect 0.3 to 3.33, anywhere it fits."""
    size = draw_size(height, width, (0.02, 0.4), (0.3, 1 / 0.3), rng)
    if size is None:
        return EMPTY
    top, left = draw_place(height, width, size, rng)
    return top, left, top + size[0], left + size[1]


def draw_patch(
    images: int, within: tuple[int, int], onto: tuple[int, int], rng: np.random.Generator
) -> Patch | None:
    """Zhou et al. (OSNet, TPAMI 2021): area 1 to 50 %, aspect 0.1 to 10, flipped half the time.

    Theirs comes from a pool that each worker fills as it goes; here any of the `images` of the
    training set, so that the number of workers changes nothing. It is not rotated.
    """
    size = draw_size(*onto, (0.01, 0.5), (0.1, 10.0), rng)
    if size is None:
        return None
    image = int(rng.integers(images))
    top, left = draw_place(*within, size, rng)
    place = draw_place(*onto, size, rng)
    flip = bool(rng.random() < 0.5)
    return Patch(image, (top, left, top + size[0], left + size[1]), *place, flip)
