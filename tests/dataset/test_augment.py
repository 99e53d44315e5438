from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from reid_lab.dataset import Transforms
from reid_lab.dataset.augment import Augmentation, Patch, augment, draw_patch
from reid_lab.dataset.colour import Adjustment, adjust, draw_steps

TRANSFORMS = Transforms(64, 32)
EVERYTHING = replace(TRANSFORMS, patch=0.7, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 72, 36), np.uint8)


def augmented(transforms: Transforms, index: int, number: int) -> np.ndarray:
    out = np.empty((3, 64, 32), np.uint8)
    drawn = transforms.draw(np.random.default_rng([0, 2, number]), len(IMAGES))
    augment(IMAGES, index, drawn, out)
    return out


def test_crops_and_flips_are_pixels_of_the_enlarged_image() -> None:
    assert TRANSFORMS.train_size == (72, 36)
    windows = {
        IMAGES[0, :, t : t + 64, s : s + 32][..., ::step].tobytes(): (t, s, step)
        for t in range(9)
        for s in range(5)
        for step in (1, -1)
    }
    seen = {windows[augmented(TRANSFORMS, 0, number).tobytes()] for number in range(200)}
    assert len(seen) > 60  # of the 90 there are: many places, both directions


def test_half_are_erased() -> None:
    rngs = map(np.random.default_rng, range(200))
    area_masks = sum(TRANSFORMS.draw(rng, 5).erased != (0, 0, 0, 0) for rng in rngs)
    assert 60 < area_masks < 140


@pytest.mark.parametrize("transforms", [TRANSFORMS, EVERYTHING])
def test_each_draw_is_its_own_and_repeatable(transforms: Transforms) -> None:
    assert np.array_equal(augmented(transforms, 1, 7), augmented(transforms, 1, 7))
    assert len({augmented(transforms, 1, number).tobytes() for number in range(20)}) > 15


def test_what_is_switched_on_leaves_the_rest_as_it_was() -> None:
    for number in range(20):
        plain, all_of_it = (
            t.draw(np.random.default_rng(number), 5) for t in (TRANSFORMS, EVERYTHING)
        )
        assert replace(all_of_it, patch=None, colour=()) == plain


def test_a_patch_is_cut_from_another_image() -> None:
    out = np.empty((3, 64, 32), np.uint8)
    augment(IMAGES, 0, Augmentation(4, 2, False, patch=Patch(3, (5, 6, 25, 16), 30, 1, True)), out)
    wanted = IMAGES[0, :, 4:68, 2:34].copy()
    wanted[:, 30:50, 1:11] = IMAGES[3, :, 5:25, 6:16][..., ::-1]
    assert np.array_equal(out, wanted)


def test_patches_keep_to_their_area_and_use_every_image() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_patch(5, (72, 36), (64, 32), rng) for _ in range(300)]
    patches = [patch for patch in drawn if patch is not None]
    assert len(patches) == 300
    assert {patch.image for patch in patches} == set(range(5))
    assert 120 < sum(patch.flip for patch in patches) < 180
    sources = np.array([patch.source for patch in patches])
    sizes = sources[:, 2:] - sources[:, :2]
    share = sizes.prod(1) / (64 * 32)
    assert 0.008 < share.min() < 0.1 < 0.4 < share.max() < 0.52
    assert (sources >= 0).all() and (sources[:, 2:] <= (72, 36)).all()
    corners = np.array([(patch.top, patch.left) for patch in patches])
    assert (corners >= 0).all() and (corners + sizes <= (64, 32)).all()


ADJUST = {
    "brightness": tv.adjust_brightness,
    "contrast": tv.adjust_contrast,
    "saturation": tv.adjust_saturation,
    "hue": tv.adjust_hue,
}


@pytest.mark.parametrize("amount", [0.0, 0.4, 1.7])
@pytest.mark.parametrize("names", [[name] for name in ADJUST] + [list(ADJUST), list(ADJUST)[::-1]])
def test_colour_is_torchvisions(names: list[Adjustment], amount: float) -> None:
    steps = tuple((name, amount - 0.5 if name == "hue" else amount) for name in names)
    if any(name == "hue" and abs(shift) > 0.5 for name, shift in steps):
        steps = tuple((name, 0.2 if name == "hue" else factor) for name, factor in steps)
    image = IMAGES[0].copy()
    image[:, :8] = image[:1, :8]  # grey, where there is no hue
    wanted = torch.from_numpy(image) / 255
    for name, value in steps:
        wanted = ADJUST[name](wanted, value)
    assert np.abs(adjust(image, steps) - wanted.numpy() * 255).max() <= 0.51  # it rounds


def test_factors_and_their_order_are_torchvisions() -> None:
    ranges: dict[Adjustment, float] = {
        "brightness": 0.2,
        "contrast": 0,
        "saturation": 1.5,
        "hue": 0.1,
    }
    drawn = [draw_steps(ranges, np.random.default_rng(n)) for n in range(300)]
    assert {tuple(name for name, _ in steps) for steps in drawn} == {
        (a, b, c) for a in ranges for b in ranges for c in ranges
        if len({a, b, c}) == 3 and "contrast" not in (a, b, c)
    }  # fmt: skip
    for name, low, high in (("brightness", 0.8, 1.2), ("saturation", 0, 2.5), ("hue", -0.1, 0.1)):
        amounts = [dict(steps)[name] for steps in drawn]  # type: ignore[index]
        reach = high - low
        assert low <= min(amounts) < low + reach / 10 < high - reach / 10 < max(amounts) <= high
