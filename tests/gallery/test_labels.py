"""Thresholds from what users confirmed and rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.gallery.accept_thresholds import fit_own_thresholds
from reid_lab.gallery.images import Labelled
from reid_lab.gallery.labels import SOURCE, fit_labels, read_labels
from reid_lab.gallery.store import SavedGallery
from reid_lab.openset.thresholds import AcceptThresholds
from reid_lab.runtime.gallery import Gallery
from tests.gallery.test_accept_thresholds import DIM, calibrated, made

AWAY = [0.9, 0.3, 0.7, 0.5, 0.8, 0.6]  # of the rejected matches


def labelled(
    gallery: SavedGallery, genuine: list[float], impostor: list[float]
) -> tuple[list[Labelled], np.ndarray]:
    """Labels at these distances from an image of their person, along the last axis."""
    images, rows = [], []
    for correct, far in [("1", far) for far in genuine] + [("0", far) for far in impostor]:
        number = len(images)
        images.append(Labelled(Path(f"/x/{number}.jpg"), "alone", values={"correct": correct}))
        rows.append(np.append(np.zeros(DIM - 1), 100 + far))
    return images, np.array(rows, np.float32)


@pytest.fixture
def gallery(tmp_path: Path) -> SavedGallery:
    """The people of `made`, and one who is far from them all."""
    found = made(tmp_path / "g")
    place = np.append(np.zeros(DIM - 1), 100).astype(np.float32)
    Gallery.open_rows(found.folder).add(place[None], ["alone.jpg"], ["alone"], ["door"])
    return SavedGallery.open(found.folder)


def fitted(
    gallery: SavedGallery, genuine: list[float], impostor: list[float], rates: list[float]
) -> AcceptThresholds:
    return fit_labels(gallery, *labelled(gallery, genuine, impostor), rates)


def test_the_threshold_lets_a_share_of_the_rejected_pass(gallery: SavedGallery) -> None:
    found = fitted(gallery, [0.1, 0.4, 0.65, 2.0], AWAY, [0.5, 0.2])
    assert (found.kind, found.source, found.people) == ("pairs", SOURCE, 1)
    assert (found.trials, found.images) == (6, len(gallery))
    half, fifth = found.thresholds
    assert half.distance == pytest.approx(0.7, abs=1e-4)  # 0.3, 0.5 and 0.6 are nearer
    assert fifth.distance == pytest.approx(0.5, abs=1e-4)  # of six, one may pass
    assert (half.true_accept_rate, fifth.true_accept_rate) == (0.75, 0.5)


def test_the_threshold_moves_with_the_labels(gallery: SavedGallery) -> None:
    (before,) = fitted(gallery, [0.1], AWAY, [0.2]).thresholds
    (nearer,) = fitted(gallery, [0.1], [*AWAY, 0.2, 0.25], [0.2]).thresholds
    (farther,) = fitted(gallery, [0.1], [*AWAY, 5.0, 6.0, 7.0, 8.0], [0.2]).thresholds
    assert nearer.distance == pytest.approx(0.25, abs=1e-4)
    assert nearer.distance < before.distance < farther.distance
    (confirmed,) = fitted(gallery, [0.1, 3.0], AWAY, [0.2]).thresholds
    assert confirmed.distance == before.distance  # the known only change what is accepted
    assert (before.true_accept_rate, confirmed.true_accept_rate) == (1, 0.5)


@pytest.mark.parametrize("by", ["path", "embedding"])
def test_a_labelled_image_of_the_gallery_is_not_its_own_match(
    gallery: SavedGallery, by: str
) -> None:
    images, rows = labelled(gallery, [0.4], AWAY)
    name, moved = (str(images[0].path), 0.001) if by == "path" else ("other name.jpg", 0)
    Gallery.open_rows(gallery.folder).add(rows[:1] + moved, [name], ["alone"], [""])
    (at,) = fit_labels(SavedGallery.open(gallery.folder), images, rows, [0.5]).thresholds
    assert at.distance == pytest.approx(0.3, abs=0.01)  # the rejected are compared with both
    assert at.true_accept_rate == 0  # it is 0.4 from the other image


def test_too_few_labels_are_refused(gallery: SavedGallery) -> None:
    with pytest.raises(UserError, match="0 confirmed and 6 rejected matches with people of"):
        fitted(gallery, [], AWAY, [0.5])
    with pytest.raises(UserError, match="1 confirmed and 4 rejected"):
        fitted(gallery, [0.1], AWAY[:4], [0.5])
    with pytest.raises(UserError, match="6 rejected matches show no false-accept rate below 1.7e"):
        fitted(gallery, [0.1], AWAY, [0.5, 0.1])
    images, rows = labelled(gallery, [0.1], AWAY)
    strangers = [image._replace(person="nobody") for image in images]
    with pytest.raises(UserError, match="0 confirmed and 0 rejected"):
        fit_labels(gallery, strangers, rows)


def test_it_stands_beside_the_gallery_s_searches(gallery: SavedGallery) -> None:
    searches, pairs = fit_own_thresholds(gallery)
    labels = fit_labels(gallery, *labelled(gallery, [0.1], AWAY))
    assert labels.thresholds[0].distance < pairs.at(0.5).distance
    assert calibrated(gallery, searches, labels).card.accept_thresholds == (searches, labels)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,pid\nx.jpg,anna\n", "no column correct"),
        ("path,pid,correct\nx.jpg,anna,maybe\n", "line 2: maybe"),
        ("path,pid,correct\ny.jpg,anna,1\n", "line 2: y.jpg"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "x.jpg").touch()
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        read_labels(tmp_path / "labels.csv")
    with pytest.raises(UserError, match="Give the labels.csv that reid-lab export-people writes"):
        read_labels(tmp_path / "no.csv")
