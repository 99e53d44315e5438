"""Split identities into train, query and gallery, and check that queries have matches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.files.regular import escaped
from reid_lab.protocol import DISTRACTOR, Hidden, Protocol

FEWEST = 10  # training identities of which `dataset.val_identities=auto` holds some out


def hold_out(
    train: Split, identities: int, seed: int, tracklets: bool = False
) -> tuple[Split, Split, Split]:
    """Hold out `identities` people of the training split for validation.

    They are drawn from the people with a possible match: seen by two cameras or, in single-camera
    data, in two images (or tracklets). Query and gallery are as in `query_and_gallery`.

    Returns:
        (train, query, gallery).

    Raises:
        DatasetError: too few such people, or none would be left for training.
    """
    candidates = matchable_pids(train, tracklets)
    if identities > len(candidates) or identities >= len(train.identities):
        raise DatasetError(
            f"dataset.val_identities={identities}, but {len(candidates)} of the "
            f"{len(train.identities)} training identities can have a match (in two cameras, or in "
            f"two {'tracklets' if tracklets else 'images'} where there is one camera) and one must "
            "be left for training: set a smaller number"
        )
    held_out = np.random.default_rng(seed).choice(candidates, identities, replace=False)
    is_held_out = np.isin(train.pids, held_out)
    return train.take(~is_held_out), *query_and_gallery(train.take(is_held_out), tracklets)


def auto_held_out(identities: int, matchable: int | None = None) -> int:
    """Return the people to hold out for `dataset.val_identities=auto`.

    A tenth of the training identities, at least 2, drawn from those who can have a match (None:
    all); with fewer than 10 identities, none.
    """
    if identities < FEWEST:
        return 0
    held_out = min(max(2, round(0.1 * identities)), identities if matchable is None else matchable)
    return held_out if held_out >= 2 else 0


def query_and_gallery(split: Split, tracklets: bool = False) -> tuple[Split, Split]:
    """Split images into query and gallery.

    The first image (or tracklet) of each person in each camera is a query, the rest are gallery.
    People with one in every camera would have no gallery image: only their first one is a query.
    Distractors (pid 0) and junk (pid -1) are gallery.
    """
    pids, camids = split.pids, split.camids
    tracks = split.tracks if tracklets else np.arange(len(split))
    # units are images or tracklets, sorted by person and camera
    units, unit_of = np.unique(np.stack([pids, camids, tracks]), axis=1, return_inverse=True)
    unit_pids, order = units[0], np.arange(units.shape[1])
    _, first_in_camera = np.unique(units[:2], axis=1, return_index=True)
    is_query = np.isin(order, first_in_camera) & (unit_pids > DISTRACTOR)
    without_gallery = np.setdiff1d(unit_pids, unit_pids[~is_query])
    _, first_of_person = np.unique(unit_pids, return_index=True)
    is_query &= ~np.isin(unit_pids, without_gallery) | np.isin(order, first_of_person)
    query_images = is_query[unit_of.ravel()]
    return split.take(query_images), split.take(~query_images)


def allow_one_camera(benchmark: Benchmark) -> Benchmark:
    """Allow matches from the same camera, with a note, if all images are from one camera."""
    cameras = np.union1d(benchmark.query.camids, benchmark.gallery.camids)
    if len(cameras) != 1:
        return benchmark
    note = (
        f"{benchmark.name}: all query and gallery images are from camera "
        f"{escaped(benchmark.camera_name(cameras[0]))}, so matches "
        "come from the same camera: easier than re-identification across cameras"
    )
    return replace(benchmark, protocol=Protocol(hidden="nothing"), notes=(*benchmark.notes, note))


def all_images(query: Split, gallery: Split) -> tuple[Split, Split]:
    """Return query and gallery of an all-against-all evaluation.

    Returns:
        The images of people, and all images, each once, in their order with queries first.
    """
    every = Split.concatenate(query, gallery)
    boxes = [()] * len(every) if every.boxes is None else map(tuple, every.boxes.tolist())
    first = dict[object, int]()
    for row, image in enumerate(zip(every.names.tolist(), boxes, strict=True)):
        first.setdefault(image, row)
    images = every.take(np.fromiter(first.values(), np.int64, len(first)))
    return images.take(images.pids > DISTRACTOR), images


def all_against_all(benchmark: Benchmark) -> Benchmark:
    """Return the data set with each test image as a query, hidden from itself only, and a note."""
    query, gallery = all_images(benchmark.query, benchmark.gallery)
    note = (
        f"{benchmark.name}: all against all: each of {len(query):,} test images of people is a "
        "query and hidden from itself; matches may come from the same camera, unlike under the "
        "data set's own protocol"
    )
    protocol = replace(benchmark.protocol, hidden="itself", shots=None, trials=1)
    notes = (*benchmark.notes, note)
    return replace(
        benchmark, query=query, gallery=gallery, multi_query=None, protocol=protocol, notes=notes
    )


def check_rankable(name: str, query: Split, gallery: Split, hidden: Hidden) -> None:
    """Check that at least one query has a match under the protocol.

    Raises:
        DatasetError: all images are from one camera, which the protocol hides; or no query has a
            match that is not hidden.
    """
    cameras = np.union1d(query.camids, gallery.camids)
    if hidden == "itself":
        _check_pairs(name, gallery)
        return
    if len(cameras) < 2 and hidden != "nothing":
        raise DatasetError(
            f"{name}: all query and gallery images are from camera {cameras.tolist()}. A match "
            "must come from another camera, so two are needed: check the camera numbers"
        )
    cameras_of: dict[int, set[int]] = {}
    for pid, camid in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        cameras_of.setdefault(pid, set()).add(camid)
    queries = zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    for pid, camid in queries:
        if cameras_of.get(pid, set()) - (set() if hidden == "nothing" else {camid}):
            return
    where = "" if hidden == "nothing" else " from another camera"
    raise DatasetError(
        f"{name}: no query has a gallery image of the same person{where}, so nothing can be "
        "ranked: check pids and cameras"
    )


def _check_pairs(name: str, images: Split) -> None:
    pids, counts = np.unique(images.pids, return_counts=True)
    if not (counts[pids > DISTRACTOR] > 1).any():
        raise DatasetError(
            f"{name}: no person has two images, so nothing can be ranked: check pids"
        )


def matchable_pids(train: Split, tracklets: bool) -> np.ndarray:
    """Return pids in two cameras; in single-camera data, those with two images or tracklets."""
    people = train.take(train.pids > DISTRACTOR)
    if len(np.unique(people.camids)) > 1:
        pairs = np.unique(np.stack([people.pids, people.camids]), axis=1)[0]
    elif tracklets:
        pairs = np.unique(np.stack([people.pids, people.tracks]), axis=1)[0]
    else:
        pairs = people.pids
    pids, counts = np.unique(pairs, return_counts=True)
    return pids[counts > 1]
