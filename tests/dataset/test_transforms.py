from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from reid_lab.dataset import Transforms
from reid_lab.dataset.augment import draw_erased_area
from reid_lab.dataset.transforms import area_masks, denormalise, erase, normalise


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)


def test_ten_crops_are_corners_centre_and_their_flips() -> None:
    transforms = Transforms(64, 32, test_views=10)
    image = image_of(*transforms.test_size)
    views = transforms.test(image)
    assert views.shape == (10, 3, 64, 32)
    assert np.array_equal(views[3], image[:, 8:, 4:])
    assert np.array_equal(views[4], image[:, 4:68, 2:34])
    assert np.array_equal(views[5:], views[:5, ..., ::-1])
    assert Transforms(64, 32, test_crop="whole").test_size == (64, 32)


def test_the_centre_is_that_of_the_enlarged_image() -> None:
    transforms = Transforms(64, 32, test_crop="centre")
    assert transforms == Transforms(64, 32) and transforms.test_size == (72, 36)
    image = image_of(72, 36)
    assert np.array_equal(transforms.test(image), image[None, :, 4:68, 2:34])
    ten = replace(transforms, test_views=10)
    assert np.array_equal(ten.test(image)[4], transforms.test(image)[0])


@pytest.mark.parametrize("crop", ["centre", "whole"])
def test_two_views_are_the_one_and_its_flip(crop: Literal["centre", "whole"]) -> None:
    one = Transforms(64, 32, test_crop=crop)
    two = replace(one, test_views=2)
    assert two.test_size == one.test_size
    image = image_of(*one.test_size)
    (expected,) = one.test(image)
    assert np.array_equal(two.test(image), [expected, expected[..., ::-1]])


def test_erasing_boxes_keep_to_area_and_image() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([draw_erased_area(128, 64, rng) for _ in range(500)])
    top, left, bottom, right = boxes.T
    share = (bottom - top) * (right - left) / (128 * 64)
    assert 0.015 < share.min() < share.max() < 0.42
    assert (bottom <= 128).all()
    assert (right <= 64).all()


def test_erase_takes_each_image_its_own_box() -> None:
    images = torch.ones(3, 3, 8, 6)
    boxes = torch.tensor([[0, 0, 0, 0], [1, 2, 4, 5], [0, 0, 8, 6]])
    erased = erase(images, boxes)
    assert erased[0].eq(1).all()
    assert erased[1, :, 1:4, 2:5].eq(0).all()
    assert erased[1].sum() == 3 * (48 - 9)
    assert erased[2].eq(0).all()


def test_slices_erase_what_the_mask_does() -> None:
    rng = np.random.default_rng(0)
    images = torch.randn(40, 3, 64, 32)
    boxes = torch.tensor([draw_erased_area(64, 32, rng) for _ in range(39)] + [(0, 0, 0, 0)])
    masked = images.masked_fill(area_masks(boxes, 64, 32), 0.0)
    assert torch.equal(erase(images, boxes), masked)
    assert masked[:39].eq(0).any(-1).any(-1).all()


def test_normalise_is_torchvisions_and_invertible() -> None:
    for shape in ((3, 5, 4), (2, 3, 5, 4), (2, 10, 3, 5, 4)):
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        expected = v2.functional.normalize(
            pixels / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        )
        torch.testing.assert_close(normalise(pixels), expected)
        assert torch.equal(denormalise(normalise(pixels)), pixels)
