"""`embed` with an exported network: the arguments and results of `reid_lab.embed`, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_lab.output.arguments import path
from reid_lab.runtime.images import decode, resize
from reid_lab.runtime.inputs import ImagesInput, select_exits, source_batches
from reid_lab.runtime.model import Model, Values


def embed(
    model: Model | Path | str,
    images: ImagesInput,
    boxes: Any = None,
    *,
    exits: Sequence[str] | str | None = None,
    batch_size: int | None = None,
) -> Values:
    """Embed images, or the boxes of a frame, at the exits of an exported network.

    Args:
        model: folder of an export, or a `Model`, which avoids opening it at each call.
        images: a folder, an image file, paths, pixels (N, H, W, 3) uint8 RGB, or a list of pixels
            (h, w, 3). With `boxes`: a frame (H, W, 3) uint8 RGB, or an image file.
        boxes: (N, 4) xyxy in pixels: an array, lists, or an object with them in `xyxy`, such as
            `supervision.Detections`. They are rounded, and clipped to the frame.
        exits: names of exits; later ones are not computed. None: all.
        batch_size: images per batch. None: 64, or all crops of a frame.

    Returns:
        Exit -> (N, D) float32, cheapest exit first.

    Raises:
        UserError: not an export, an unknown exit, images that cannot be read, or a box without a
            pixel in the frame.
    """
    model = model if isinstance(model, Model) else Model(path("model", model))
    names = select_exits(exits, model.manifest.names)
    parts = []
    for batch in source_batches(images, boxes, batch_size):
        pixels = [decode(source) if isinstance(source, Path) else source for source in batch]
        parts.append(model.embed(np.stack([resize(p, model.image) for p in pixels]), names))
    if not parts:
        return model.embed(np.empty((0, *model.image, 3), np.uint8), names)
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
