"""Who trains, who asks, who is found; and whether that can be ranked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reid_lab.dataset.records import DISTRACTOR, Benchmark, DatasetError, Split
from reid_lab.files.image_files import escaped
from reid_lab.protocol import Hidden, Protocol


def hold_out(
    train: Split, identities: int, seed: int, tracklets: bool = False
) -> tuple[Split, Split, Split]:
    """Keep `identities` people of `train` apart for validation: (train, query, gallery).

    The first image of a person in a camera is a query, the others are gallery; where there is
    one camera only, people need two images (or tracklets) instead of two cameras.

    Raises:
        DatasetError: fewer than `identities` people can be found again, or none is left.
    """
    able = _findable(train, tracklets)
    if identities > len(able) or identities >= len(train.identities):
        raise DatasetError(
            f"dataset.val_identities={identities}, but {len(able)} of the "
            f"{len(train.identities)} training identities can be found again (seen by two cameras, "
            f"or in two {'tracklets' if tracklets else 'images'} of the only one) and one must "
            "stay for training: ask for fewer"
        )
    held = np.random.default_rng(seed).choice(able, identities, replace=False)
    apart = np.isin(train.pids, held)
    return train.take(~apart), *query_and_gallery(train.take(apart), tracklets)


def query_and_gallery(split: Split, tracklets: bool = False) -> tuple[Split, Split]:
    """The first image (or tracklet) of a person in a camera is a query, the others are gallery.

    Who has one in every camera would be queries only: their first one asks, the others answer.
    Distractors (pid 0) and junk (pid -1) are gallery.
    """
    pids, camids = split.pids, split.camids
    tracks = split.tracks if tracklets else np.arange(len(split))
    seen, unit = np.unique(np.stack([pids, camids, tracks]), axis=1, return_inverse=True)
    _, first = np.unique(seen[:2], axis=1, return_index=True)
    asks = np.isin(np.arange(seen.shape[1]), first) & (seen[0] > DISTRACTOR)
    only_asks = np.setdiff1d(seen[0], seen[0][~asks])
    _, leads = np.unique(seen[0], return_index=True)
    asks &= ~np.isin(seen[0], only_asks) | np.isin(np.arange(seen.shape[1]), leads)
    asked = asks[unit.ravel()]
    return split.take(asked), split.take(~asked)


def allow_one_camera(benchmark: Benchmark) -> Benchmark:
    """`benchmark`; where one camera took all, matches may come from it, and a note says so."""
    cameras = np.union1d(benchmark.query.camids, benchmark.gallery.camids)
    if len(cameras) != 1:
        return benchmark
    note = (
        f"{benchmark.name}: all query and gallery images are from camera "
        f"{escaped(benchmark.camera_name(cameras[0]))}, so matches "
        "come from the same camera: easier than re-identification across cameras"
    )
    return replace(benchmark, protocol=Protocol(hidden="nothing"), notes=(*benchmark.notes, note))


def check_rankable(name: str, query: Split, gallery: Split, hidden: Hidden) -> None:
    """Whether any query can be answered under the protocol.

    Raises:
        DatasetError: one camera only where it is hidden, or no query with a match that it sees.
    """
    cameras = np.union1d(query.camids, gallery.camids)
    if len(cameras) < 2 and hidden != "nothing":
        raise DatasetError(
            f"{name}: all query and gallery images are from camera {cameras.tolist()}. A match "
            "must come from another camera, so two are needed: check the camera numbers"
        )
    seen: dict[int, set[int]] = {}
    for pid, camid in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True):
        seen.setdefault(pid, set()).add(camid)
    queries = zip(query.pids.tolist(), query.camids.tolist(), strict=True)
    for pid, camid in queries:
        if seen.get(pid, set()) - (set() if hidden == "nothing" else {camid}):
            return
    where = "" if hidden == "nothing" else " from another camera"
    raise DatasetError(
        f"{name}: no query has a gallery image of the same person{where}, so nothing can be "
        "ranked: check pids and cameras"
    )


def _findable(train: Split, tracklets: bool) -> np.ndarray:
    """Pids seen by two cameras; in two images or tracklets, where there is only one."""
    people = train.take(train.pids > 0)
    if len(np.unique(people.camids)) > 1:
        pairs = np.unique(np.stack([people.pids, people.camids]), axis=1)[0]
    elif tracklets:
        pairs = np.unique(np.stack([people.pids, people.tracks]), axis=1)[0]
    else:
        pairs = people.pids
    pids, often = np.unique(pairs, return_counts=True)
    return pids[often > 1]
