"""Boxes of a frame: rounded, clipped, and refused where they have no pixel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.errors import UserError
from reid_lab.images.boxes import frame_boxes, frame_crops

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
ROWS = [[2, 3, 10, 30], [50.6, -5, 70, 20.4]]
WHOLE = [[2, 3, 10, 30], [51, 0, 60, 20]]  # rounded, and clipped to 60 x 40


@pytest.mark.parametrize(
    "boxes",
    [
        ROWS,
        np.array(ROWS),
        np.array(ROWS, np.float32),
        torch.tensor(ROWS, requires_grad=True),
        SimpleNamespace(xyxy=np.array(ROWS)),
        SimpleNamespace(xyxy=torch.tensor(ROWS)),
    ],
)
def test_boxes_are_rounded_and_clipped(boxes: Any) -> None:
    assert frame_boxes(boxes, 40, 60).tolist() == WHOLE
    for crop, (left, top, right, bottom) in zip(frame_crops(FRAME, boxes), WHOLE, strict=True):
        np.testing.assert_array_equal(crop, FRAME[top:bottom, left:right])


@pytest.mark.parametrize(
    "boxes", [[], (), np.empty((0, 4)), SimpleNamespace(xyxy=torch.empty(0, 4))]
)
def test_no_boxes(boxes: Any) -> None:
    assert frame_boxes(boxes, 40, 60).shape == (0, 4)
    assert frame_crops(FRAME, boxes) == []


@pytest.mark.parametrize(
    "row",
    [
        [60, 0, 70, 10],  # right of the frame
        [0, -9, 10, 0],  # above it
        [10, 5, 10, 30],  # no width
        [10.2, 5, 10.4, 30],  # none once rounded
        [30, 5, 20, 30],  # left and right swapped
        [0.1, 0.1, 0.4, 0.4],  # fractions of the frame
        [float("nan"), 0, 10, 10],
        [0, 0, float("inf"), 10],
    ],
)
def test_a_box_without_a_pixel_is_named(row: list[float]) -> None:
    with pytest.raises(UserError, match=r"^row 1 of the boxes.* frame of 60 x 40 pixels"):
        frame_boxes([ROWS[0], row, row], 40, 60)


def test_a_huge_box_is_the_frame() -> None:
    assert frame_boxes([[-1e300, -1e300, 1e300, 1e300]], 40, 60).tolist() == [[0, 0, 60, 40]]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([1, 2, 3, 4], r"\(4,\)"),
        (np.zeros((2, 5)), r"\(2, 5\)"),
        ([[1, 2, 3, 4], [1, 2]], "not an array of numbers"),
        ("a.csv", "not an array of numbers"),
        ([[1, 2, None, {}]], "not an array of numbers"),
    ],
)
def test_other_boxes_are_refused(boxes: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"must be \(N, 4\) xyxy in pixels, these are {message}"):
        frame_boxes(boxes, 40, 60)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME / 255, r"\(40, 60, 3\) float64"),
        (FRAME[..., 0], r"\(40, 60\) uint8"),
        (FRAME[None], r"\(1, 40, 60, 3\) uint8"),
        (torch.from_numpy(FRAME), "Tensor"),
    ],
)
def test_other_frames_are_refused(frame: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"must be \(H, W, 3\) uint8 RGB.* this is {message}"):
        frame_crops(frame, ROWS)
