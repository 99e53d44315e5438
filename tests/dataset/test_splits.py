"""Splits of identities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_lab.dataset import DatasetError, Split, read_layout
from reid_lab.dataset.splits import hold_out


def test_held_out_people_are_apart(people: Path) -> None:
    train = read_layout(people, "mini").train
    rest, query, gallery = hold_out(train, 3, seed=1)
    held = set(query.pids.tolist())
    assert len(held) == 3
    assert held == set(gallery.pids.tolist())
    assert not held & set(rest.pids.tolist())
    assert len(rest) + len(query) + len(gallery) == len(train)
    pairs = np.stack([query.pids, query.camids])
    assert np.unique(pairs, axis=1).shape == pairs.shape  # one query per person and camera
    with pytest.raises(DatasetError, match="val_identities=8"):
        hold_out(train, 8, seed=1)


def test_one_camera_is_held_out_by_images() -> None:
    train = Split.of(Path("/x"), [(f"{n}.jpg", n // 3 + 1, 1, 0) for n in range(12)])
    _, query, gallery = hold_out(train, 2, seed=0)
    assert len(query) == 2
    assert len(gallery) == 4


def test_tracklets_stay_whole() -> None:
    rows = [
        (f"{n}.jpg", n // 12 + 1, n % 12 // 6 + 1, n // 2) for n in range(48)
    ]  # 3 tracklets per camera
    _, query, gallery = hold_out(Split.of(Path("/x"), rows), 2, seed=0, tracklets=True)
    assert len(query) == 8  # two images of one tracklet, two cameras, two people
    assert not set(query.tracks.tolist()) & set(gallery.tracks.tolist())


def test_with_one_image_per_camera_the_first_is_the_query() -> None:
    rows = [(f"{n}.jpg", n // 2 + 1, n % 2 + 1, 0) for n in range(12)]
    _, query, gallery = hold_out(Split.of(Path("/x"), rows), 3, seed=0)
    assert query.camids.tolist() == [1, 1, 1]
    assert gallery.pids.tolist() == query.pids.tolist()


def test_one_tracklet_of_one_camera_is_not_found_again() -> None:
    rows = [(f"{n}.jpg", n // 5 + 1, 1, n // 5 + 1) for n in range(20)]
    with pytest.raises(DatasetError, match="0 of the 4.*two tracklets"):
        hold_out(Split.of(Path("/x"), rows), 2, seed=0, tracklets=True)
