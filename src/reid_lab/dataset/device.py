"""`dataset.cache=device`: images stay where the network is, and are cropped there by the batch.

A batch is loaded as what is to be done: which images, and each one's draw, the same random numbers
that `augment` would get. So its pixels are those of the ordinary path: exactly, and after colour
jitter to a grey level. Nothing here makes the processor wait for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reid_lab.dataset.augment import EMPTY, Augmentation, Patch
from reid_lab.dataset.device_colour import STEP_INDEX
from reid_lab.dataset.records import DatasetError
from reid_lab.dataset.transforms import Transforms

NO_PATCH = Patch(0, EMPTY, 0, 0, False)


class DeviceImages:
    """Images (N, 3, H, W) uint8 in the memory of one device: the one that asked last."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = torch.from_numpy(pixels)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        """One of them on the host, for what looks at a few."""
        return self._pixels[index].cpu().numpy()

    def on(self, device: torch.device) -> Tensor:
        """All of them there; the copy elsewhere is freed.

        Raises:
            DatasetError: they do not fit beside what the device holds already.
        """
        if self._pixels.device != device:
            try:
                self._pixels = self._pixels.to(device)
            except torch.OutOfMemoryError as error:
                raise DatasetError(
                    f"dataset.cache=device: {len(self):,} images take {self._pixels.nbytes:,} "
                    f"bytes, more than {device} has free. Use dataset.cache=memory or "
                    "dataset.cache=disk"
                ) from error
        return self._pixels


def pack_crops(indices: Sequence[int], drawn: Sequence[Augmentation], patches: bool) -> Tensor:
    """Which images and how they are cut: (N, 4) int64, or (N, 12) with `patches`."""
    rows = [
        (index, one.top, one.left, one.flip, *(_flat(one.patch or NO_PATCH) if patches else ()))
        for index, one in zip(indices, drawn, strict=True)
    ]
    return torch.from_numpy(np.array(rows, np.int64))


def _flat(patch: Patch) -> tuple[int, ...]:
    top, left, bottom, right = patch.source
    return patch.image, top, left, bottom - top, right - left, patch.top, patch.left, patch.flip


def pack_colour(drawn: Sequence[Augmentation]) -> Tensor:
    """Each image's steps in its own order, (N, steps, 2) float32: which adjustment, how much."""
    steps = [[(STEP_INDEX[name], amount) for name, amount in one.colour] for one in drawn]
    return torch.from_numpy(np.array(steps, np.float32))


def crop_batch(images: Tensor, draws: Tensor, height: int, width: int) -> Tensor:
    """What `augment` crops, flips and pastes, without colour: (N, 3, height, width) uint8.

    Args:
        images: all that are held.
        draws: as `pack_crops`.
    """
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)
    image, top, left, flip = draws[:, :4, None, None].unbind(1)  # (N, 1, 1) each
    row = top + y  # (N, H, 1)
    column = left + torch.where(flip > 0, width - 1 - x, x)  # (N, 1, W)
    if draws.shape[1] > 4:
        source, above, before, h, w, top, left, flip = draws[:, 4:, None, None].unbind(1)
        down, right = y - top, x - left
        pasted = (down >= 0) & (down < h) & (right >= 0) & (right < w)  # (N, H, W)
        image = torch.where(pasted, source, image)
        row = torch.where(pasted, above + down, row)
        column = torch.where(pasted, before + torch.where(flip > 0, w - 1 - right, right), column)
    channel = torch.arange(3, device=images.device)[:, None, None]
    return images[image[:, None], channel, row[:, None], column[:, None]]


def test_views(images: Tensor, transforms: Transforms) -> Tensor:
    """`Transforms.test` of (N, 3, h, w): (N, views, 3, height, width)."""
    if transforms.views == 1:
        return images[:, None]
    height, width = transforms.height, transforms.width
    corners = transforms.corners(*images.shape[-2:])
    crops = [images[..., top : top + height, left : left + width] for top, left in corners]
    stacked = torch.stack(crops, 1)
    return torch.cat([stacked, stacked.flip(-1)], 1)
