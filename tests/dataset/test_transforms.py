from __future__ import annotations

import numpy as np
import torch

from reid_lab.dataset import Transforms
from reid_lab.dataset.transforms import denormalise, erase, erasing_box, normalise


def test_train_crops_and_flips_pixels_of_the_enlarged_image() -> None:
    transforms = Transforms(64, 32, enlarge=1.125, flip=0.5, erase=0.5)
    assert transforms.train_size == (72, 36)
    image = np.random.default_rng(0).integers(0, 256, (72, 36, 3), np.uint8)
    windows = {
        image[t : t + 64, s : s + 32][:, ::step].tobytes(): (t, s, step)
        for t in range(9)
        for s in range(5)
        for step in (1, -1)
    }
    seen, holes = set(), 0
    for draw in range(200):
        crop, box = transforms.train(image, np.random.default_rng(draw))
        seen.add(windows[np.ascontiguousarray(crop).tobytes()])
        holes += box != (0, 0, 0, 0)
    assert len(seen) > 60  # of the 90 there are: many places, both directions
    assert 60 < holes < 140


def test_each_draw_is_its_own_and_repeatable() -> None:
    transforms = Transforms(64, 32)
    image = np.random.default_rng(0).integers(0, 256, (72, 36, 3), np.uint8)
    one, box_one = transforms.train(image, np.random.default_rng([0, 2, 7]))
    two, box_two = transforms.train(image, np.random.default_rng([0, 2, 7]))
    assert np.array_equal(one, two)
    assert box_one == box_two


def test_ten_crops_are_corners_centre_and_their_flips() -> None:
    transforms = Transforms(64, 32, views=10)
    image = np.random.default_rng(0).integers(0, 256, (*transforms.test_size, 3), np.uint8)
    views = transforms.test(image)
    assert views.shape == (10, 64, 32, 3)
    assert np.array_equal(views[3], image[8:, 4:])
    assert np.array_equal(views[4], image[4:68, 2:34])
    assert np.array_equal(views[5:], views[:5, :, ::-1])
    assert Transforms(64, 32).test_size == (64, 32)


def test_erasing_boxes_keep_to_area_and_image() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([erasing_box(128, 64, rng) for _ in range(500)])
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


def test_normalise_is_torchvisions_and_invertible() -> None:
    from torchvision.transforms.v2 import functional as tv

    pixels = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    expected = tv.normalize(pixels / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(pixels), expected)
    assert torch.equal(denormalise(normalise(pixels)), pixels)
