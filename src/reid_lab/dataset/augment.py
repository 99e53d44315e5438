"""Random augmentation of one training image: its parameters, and their application to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reid_lab.dataset.colour import Step, adjust

if TYPE_CHECKING:
    from reid_lab.dataset.images import Images

# top, left, bottom, right in pixels, of erasing and patches; boxes of people are `files.boxes.Box`
Area = tuple[int, int, int, int]
Range = tuple[float, float]
EMPTY: Area = (0, 0, 0, 0)


@dataclass(frozen=True)
class Patch:
    """A patch of another training image, pasted onto this one.

    Attributes:
        image: index of the training image that the patch is cut from.
        source: its area there.
        top, left: corner of the patch in the augmented image, in pixels.
        flip: mirror the patch horizontally.
    """

    image: int
    source: Area
    top: int
    left: int
    flip: bool


@dataclass(frozen=True)
class Augmentation:
    """The random parameters of one image's augmentation.

    Attributes:
        top, left: corner of the crop, in pixels.
        flip: mirror the crop horizontally.
        erased: area of the crop to erase; `EMPTY` for none.
        patch: pasted onto the crop, or None.
        colour: colour adjustments, in this order.
    """

    top: int
    left: int
    flip: bool
    erased: Area = EMPTY
    patch: Patch | None = None
    colour: tuple[Step, ...] = ()


def augment(images: Images, index: int, drawn: Augmentation, out: np.ndarray) -> None:
    """Crop, flip, patch and recolour image `index`; write the result to `out` (3, H, W) uint8."""
    bottom, right = drawn.top + out.shape[1], drawn.left + out.shape[2]
    crop = images[index][:, drawn.top : bottom, drawn.left : right]
    out[...] = crop[:, :, ::-1] if drawn.flip else crop
    if drawn.patch is not None:
        paste(images, drawn.patch, out)
    if drawn.colour:
        out[...] = adjust(out, drawn.colour)


def paste(images: Images, patch: Patch, out: np.ndarray) -> None:
    """Paste a patch onto `out` (3, H, W), in place."""
    top, left, bottom, right = patch.source
    piece = images[patch.image][:, top:bottom, left:right]
    rows = slice(patch.top, patch.top + bottom - top)
    columns = slice(patch.left, patch.left + right - left)
    out[:, rows, columns] = piece[:, :, ::-1] if patch.flip else piece


def draw_size(
    height: int, width: int, areas: Range, aspects: Range, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Draw the size (h, w) of an area that is smaller than (height, width).

    Args:
        areas: range of its area, as a fraction of height * width.
        aspects: range of its aspect ratio h / w.

    Returns:
        (h, w), or None if 100 draws do not fit.
    """
    for _ in range(100):
        area = rng.uniform(*areas) * height * width
        aspect = rng.uniform(*aspects)
        h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < h < height and 0 < w < width:
            return h, w
    return None


def draw_corner(
    height: int, width: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """Draw the corner (top, left) of an area of this size within (height, width)."""
    return int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1))


def draw_erased_area(height: int, width: int, rng: np.random.Generator) -> Area:
    """Draw the area that random erasing erases (Zhong et al., AAAI 2020).

    It covers 2 to 40% of the image with an aspect ratio of 0.3 to 3.33; `EMPTY` if no draw fits.
    """
    size = draw_size(height, width, (0.02, 0.4), (0.3, 1 / 0.3), rng)
    if size is None:
        return EMPTY
    top, left = draw_corner(height, width, size, rng)
    return top, left, top + size[0], left + size[1]


def draw_patch(
    images: int, within: tuple[int, int], onto: tuple[int, int], rng: np.random.Generator
) -> Patch | None:
    """Draw a random patch as in OSNet (Zhou et al., TPAMI 2021).

    It covers 1 to 50% of the crop with an aspect ratio of 0.1 to 10, and is flipped half the time.
    OSNet takes it from a pool that each worker fills during training; here it comes from any
    training image, so that the result does not depend on the number of workers. It is not rotated.

    Args:
        images: number of training images.
        within: (height, width) of the images that patches are cut from.
        onto: (height, width) of the crop.

    Returns:
        The patch, or None if no draw fits.
    """
    size = draw_size(*onto, (0.01, 0.5), (0.1, 10.0), rng)
    if size is None:
        return None
    image = int(rng.integers(images))
    top, left = draw_corner(*within, size, rng)
    corner = draw_corner(*onto, size, rng)
    flip = bool(rng.random() < 0.5)
    return Patch(image, (top, left, top + size[0], left + size[1]), *corner, flip)
