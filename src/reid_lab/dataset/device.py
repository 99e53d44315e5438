"""`dataset.cache=device`: decoded images are kept on the training device and augmented there.

The loader gives indices and augmentation parameters, drawn from the same random numbers as on the
CPU. The pixels are those of `augment`: exactly without colour jitter, within one grey level with
it. Nothing here synchronises the CPU with the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from reid_lab.dataset.augment import EMPTY, Augmentation, Patch
from reid_lab.dataset.device_colour import STEP_INDEX, adjust_batch
from reid_lab.dataset.records import DatasetError
from reid_lab.dataset.transforms import Transforms

if TYPE_CHECKING:
    from reid_lab.dataset.images import Decoder

NO_PATCH = Patch(0, EMPTY, 0, 0, False)


class DeviceImages:
    """Images (N, 3, H, W) uint8 in the memory of one device: the last one given to `on`."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = torch.from_numpy(pixels)

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one image (3, H, W), copied to the CPU."""
        return self._pixels[index].cpu().numpy()

    def on(self, device: torch.device) -> Tensor:
        """Return all images kept here on `device`, moving them there; the old copy is freed.

        Raises:
            DatasetError: the device has too little free memory.
        """
        if self._pixels.device != device:
            try:
                self._pixels = self._pixels.to(device)
            except torch.OutOfMemoryError as error:
                count, taken = len(self._pixels), self._pixels.nbytes
                raise DatasetError(
                    f"dataset.cache=device: {count:,} images take {taken:,} bytes, more than "
                    f"{device} has free. Use dataset.cache=memory or dataset.cache=disk"
                ) from error
        return self._pixels

    def take(self, rows: Tensor) -> Tensor:
        """Return the images `rows` (N,), on the device of `rows`: (N, 3, H, W)."""
        return self.on(rows.device)[rows]


class SharedImages(DeviceImages):
    """One process' share of a split: `pixels` are its images `indices`.

    `len` and items are those of the whole split; images outside of the share are decoded.
    """

    def __init__(self, pixels: np.ndarray, indices: Sequence[int], decoder: Decoder) -> None:
        super().__init__(pixels)
        self._decoder = decoder
        # indices into `pixels`; an image of another process is out of range
        self._slots = torch.full((len(decoder),), len(pixels))
        self._slots[torch.tensor(indices)] = torch.arange(len(indices))

    def __len__(self) -> int:
        return len(self._decoder)

    def __getitem__(self, index: int) -> np.ndarray:
        slot = int(self._slots[index])
        return super().__getitem__(slot) if slot < len(self._pixels) else self._decoder[index]

    def on(self, device: torch.device) -> Tensor:
        self._slots = self._slots.to(device)
        return super().on(device)

    def take(self, rows: Tensor) -> Tensor:
        """Return the images `rows` (N,) of the split, all of the share: (N, 3, H, W)."""
        return self.on(rows.device)[self._slots[rows]]


def pack_crops(indices: Sequence[int], drawn: Sequence[Augmentation], patches: bool) -> Tensor:
    """Pack crop parameters into an int64 tensor, (N, 4), or (N, 12) with `patches`.

    Columns: image index, top, left, flip; of the patch: image index, top, left, height and width
    in the source, top, left in the crop, flip.
    """
    rows = [
        (index, a.top, a.left, a.flip, *(_patch_columns(a.patch or NO_PATCH) if patches else ()))
        for index, a in zip(indices, drawn, strict=True)
    ]
    return torch.from_numpy(np.array(rows, np.int64))


def _patch_columns(patch: Patch) -> tuple[int, ...]:
    top, left, bottom, right = patch.source
    return patch.image, top, left, bottom - top, right - left, patch.top, patch.left, patch.flip


def pack_colour(drawn: Sequence[Augmentation]) -> Tensor:
    """Pack colour steps into (N, steps, 2) float32: index of the adjustment, its amount."""
    steps = [[(STEP_INDEX[name], amount) for name, amount in a.colour] for a in drawn]
    return torch.from_numpy(np.array(steps, np.float32))


def crop_batch(images: Tensor, draws: Tensor, height: int, width: int) -> Tensor:
    """Crop, flip and patch a batch, as `augment` does without colour.

    Args:
        images: (M, 3, h, w) uint8, all images on the device.
        draws: (N, 4) or (N, 12), from `pack_crops`.

    Returns:
        (N, 3, height, width) uint8.
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


def augment_batch(images: Tensor, batch: dict[str, Tensor], transforms: Transforms) -> Tensor:
    """Augment a training batch, of which `train` and `colour` are popped: (N, 3, H, W) uint8.

    Args:
        images: (M, 3, h, w) uint8 images that the rows of `train` index.
    """
    pixels = crop_batch(images, batch.pop("train"), *transforms.size)
    if "colour" in batch:
        pixels = adjust_batch(pixels, batch.pop("colour"), hue=transforms.hue > 0)
    return pixels


def cut_views(images: Tensor, transforms: Transforms) -> Tensor:
    """Batched `Transforms.test`: (N, 3, h, w) -> (N, views, 3, height, width)."""
    height, width = transforms.size
    corners = transforms.corners(*images.shape[-2:])
    crops = [images[..., top : top + height, left : left + width] for top, left in corners]
    stacked = torch.stack(crops, 1)
    return stacked if transforms.test_views == 1 else torch.cat([stacked, stacked.flip(-1)], 1)
