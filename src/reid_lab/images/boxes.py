"""Boxes in a frame: check them and crop their pixels. Without torch.

Boxes are xyxy in pixels: left, top, right, bottom; right and bottom are exclusive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from reid_lab.errors import UserError
from reid_lab.files.regular import escaped

Box: TypeAlias = tuple[int, int, int, int]  # xyxy: left, top, right, bottom in pixels
SIDES = ("left", "top", "right", "bottom")  # columns of tables


def crop(pixels: np.ndarray, box: Box | None) -> np.ndarray:
    """Crop (H, W, 3) to a box, clipped to the image; return it unchanged for None."""
    if box is None:
        return pixels
    left, top, right, bottom = box
    return pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]


def box_problem(path: Path, box: Box | None, height: int, width: int) -> str | None:
    """Return an error message if the box does not overlap its image, else None."""
    if box is None:
        return None
    left, top, right, bottom = box
    if min(right, width) > max(left, 0) and min(bottom, height) > max(top, 0):
        return None
    return (
        f"{escaped(path)}: the box {left} {top} {right} {bottom} (left top right bottom) is "
        f"outside of the image, {width} x {height} pixels. Correct or remove it"
    )


def frame_crops(frame: np.ndarray, boxes: Any) -> list[np.ndarray]:
    """Crop a frame to each of its boxes.

    Args:
        frame: (H, W, 3) uint8 RGB.
        boxes: see `frame_boxes`.

    Raises:
        UserError: another frame, or boxes that cannot be cropped.
    """
    if not (
        isinstance(frame, np.ndarray)
        and frame.ndim == 3
        and frame.shape[2] == 3
        and frame.dtype == np.uint8
    ):
        kind = type(frame).__name__
        found = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else kind
        raise UserError(
            f"a frame with boxes must be (H, W, 3) uint8 RGB, or the path of an image; this is "
            f"{found}. Fractions of 1: (255 * frame).round().astype('uint8'); "
            "grey: np.stack([frame] * 3, 2)"
        )
    rows = frame_boxes(boxes, frame.shape[0], frame.shape[1])
    return [frame[top:bottom, left:right] for left, top, right, bottom in rows.tolist()]


def frame_boxes(boxes: Any, height: int, width: int) -> np.ndarray:
    """Round boxes to whole pixels and clip them to a frame.

    Args:
        boxes: (N, 4) xyxy in pixels: an array, lists, a torch tensor, or an object with those in
            `xyxy`, such as `supervision.Detections`.
        height, width: size of the frame in pixels.

    Returns:
        (N, 4) int64.

    Raises:
        UserError: another shape, values that are not finite, or a box without a pixel in the
            frame; its row is named.
    """
    rows = _as_array(boxes)
    # no pixel has a number beyond int32
    clipped = np.rint(np.clip(rows, -(2.0**31), 2.0**31)).clip(0, [width, height] * 2)
    empty = ~(clipped[:, :2] < clipped[:, 2:]).all(1)  # true for NaN, too
    bad = np.flatnonzero(empty | ~np.isfinite(rows).all(1))
    if len(bad):
        sides = " ".join(f"{side:g}" for side in rows[bad[0]])
        raise UserError(
            f"row {bad[0]} of the boxes, {sides}, has no pixel in the frame of {width} x {height} "
            "pixels (width x height). Expected left top right bottom in pixels (not left top "
            "width height, not fractions of the frame): correct or remove it"
        )
    whole: np.ndarray = clipped.astype(np.int64)
    return whole


def _as_array(boxes: Any) -> np.ndarray:
    """(N, 4) float64."""
    boxes = getattr(boxes, "xyxy", boxes)
    if hasattr(boxes, "detach"):  # a torch tensor, on any device
        boxes = boxes.detach().cpu()
    try:
        rows = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"boxes must be (N, 4) xyxy in pixels, these are not an array of numbers: {error}"
        ) from error
    if rows.shape in [(0,), (0, 4)]:
        return rows.reshape(0, 4)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise UserError(f"boxes must be (N, 4) xyxy in pixels, these are {rows.shape}")
    return rows
