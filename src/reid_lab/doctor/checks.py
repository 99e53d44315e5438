"""Findings from the labels alone: people, images and cameras of each part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reid_lab.dataset.records import Benchmark, Split
from reid_lab.doctor.findings import Finding, Level, named
from reid_lab.protocol import DISTRACTOR, Hidden

Name = Callable[[int], str]  # pid or camid -> its name in the data
# what people write where they know no name
NOBODY = {"nan", "none", "null", "nil", "na", "n/a", "<na>", "nat", "unknown", "unk", "undefined"}
NOBODY |= {"?", "??", "???", "-", "--", "_", "nobody", "noname", "unlabeled", "unlabelled", "other"}


def check_labels(benchmark: Benchmark, k: int) -> list[Finding]:
    """All checks of this file; `k` is the number of images per person in a batch."""
    train, query, gallery = benchmark.train, benchmark.query, benchmark.gallery
    parts = (train, query, gallery)
    return [
        *single_cameras(train, query, gallery, benchmark.camera_name),
        *people_in_both(train, query, gallery, benchmark.person_name),
        *unused_pids(train, query),
        *placeholder_names(
            "pid", benchmark.people, np.concatenate([split.pids for split in parts])
        ),
        *placeholder_names(
            "camera", benchmark.cameras, np.concatenate([split.camids for split in parts])
        ),
        *few_images(train, k, benchmark.person_name),
        *single_camera_people(train, benchmark.person_name),
        *queries_without_match(query, gallery, benchmark.protocol.hidden, benchmark.person_name),
        *people_without_query(query, gallery, benchmark.person_name),
        *unused_numbers("pids", np.concatenate([split.identities for split in parts])),
        *unused_numbers("camera numbers", np.concatenate([split.camids for split in parts])),
    ]


def single_cameras(train: Split, query: Split, gallery: Split, name: Name = str) -> list[Finding]:
    """A single camera for training or for testing, or hardly one image per camera."""
    fix = "if several cameras took the images, correct the camera numbers"
    found = []
    tested = np.union1d(query.camids, gallery.camids)
    if len(tested) == 1:
        camera = named([name(tested[0])])
        what = f"one camera only: all query and gallery images are from camera {camera}"
        found.append(Finding("warning", f"{what}, so the test is easier than across cameras", fix))
    trained = np.unique(train.camids)
    if len(trained) == 1 and len(tested) > 1:
        camera = named([name(trained[0])])
        what = f"one camera only: all training images are from camera {camera}"
        found.append(Finding("warning", f"{what}, so nothing is learned across cameras", fix))
    every = np.concatenate([train.camids, query.camids, gallery.camids])
    count = len(np.unique(every))
    if 2 * count > len(every) > 2:
        what = f"{count:,} cameras took {len(every):,} images: hardly any is hidden from a query"
        found.append(Finding("warning", what, "correct the camera numbers: is it a frame's?"))
    return found


def people_in_both(train: Split, query: Split, gallery: Split, name: Name = str) -> list[Finding]:
    """People in both training and test."""
    both = np.intersect1d(train.identities, np.union1d(query.identities, gallery.identities))
    if not len(both):
        return []
    what = f"{len(both):,} identities are in both train and test: {named(map(name, both))}"
    fix = "the test measures what was learned by heart: keep each person in one of the two"
    return [Finding("warning", what, fix)]


def unused_pids(train: Split, query: Split) -> list[Finding]:
    """pid 0 and -1 where they have no effect, often from people counted from 0."""
    found = []
    for name, split, does in (("train", train, "trained on"), ("query", query, "found")):
        pids = split.pids[split.pids <= DISTRACTOR]
        if len(pids):
            what = f"{name}: {len(pids):,} images have pid {named(np.unique(pids))}, never {does}"
            fix = "number people from 1: 0 is a distractor, -1 is junk, both for the gallery only"
            found.append(Finding("warning", what, fix))
    return found


def placeholder_names(what: str, names: Mapping[int, str], numbers: np.ndarray) -> list[Finding]:
    """Names such as `nan` and `unknown`, which count as a person or camera like any other name."""
    odd = {number: name for number, name in names.items() if name.strip().lower() in NOBODY}
    counts = {name: int((numbers == number).sum()) for number, name in odd.items()}
    fix = "write 0 (a distractor) or -1 (junk) where a person is unknown"
    if what == "camera":
        fix = "write the camera, or leave the images out"
    return [
        Finding("warning", f"{what} {named([name])!r} may mean unknown: {count:,} images", fix)
        for name, count in counts.items()
        if count
    ]


def few_images(train: Split, k: int, name: Name = str) -> list[Finding]:
    """Training identities with a single image, or with fewer images than a batch takes."""
    pids, often = np.unique(train.pids[train.pids > DISTRACTOR], return_counts=True)
    found = []
    if (often == 1).any():
        once = named(map(name, pids[often == 1]))
        count = f"{int((often == 1).sum()):,} of {len(pids):,}"
        what = f"{count} training identities have one image: {once}"
        fix = "its positive in a triplet is itself: add images of them, or leave them out"
        found.append(Finding("warning", what, fix))
    few = int(((often > 1) & (often < k)).sum())
    if few:
        what = f"{few:,} of {len(pids):,} training identities have fewer than K={k} images"
        fix = "they are repeated in a batch; a smaller dataset.k avoids that"
        found.append(Finding("note", what, fix))
    return found


def single_camera_people(train: Split, name: Name = str) -> list[Finding]:
    """Training identities seen by a single camera, if there are several."""
    if len(np.unique(train.camids)) < 2:
        return []
    people = train.take(train.pids > DISTRACTOR)
    pairs = np.unique(np.stack([people.pids, people.camids]), axis=1)
    pids, seen = np.unique(pairs[0], return_counts=True)
    once = pids[seen == 1]
    if not len(once):
        return []
    level: Level = "warning" if 2 * len(once) > len(pids) else "note"
    what = f"{len(once):,} of {len(pids):,} training identities are seen by one camera only"
    fix = "they teach nothing about another camera: add images of other cameras if there are any"
    return [Finding(level, f"{what}: {named(map(name, once))}", fix)]


def queries_without_match(
    query: Split, gallery: Split, hidden: Hidden, name: Name = str
) -> list[Finding]:
    """Queries without a match: they are excluded from the mean."""
    if hidden == "itself":
        pids, counts = np.unique(gallery.pids, return_counts=True)
        lost = query.pids[np.isin(query.pids, pids[counts < 2])].tolist()
        return _unmatched(lost, len(query), " in another image", name)
    seen = {(p, c) for p, c in zip(gallery.pids.tolist(), gallery.camids.tolist(), strict=True)}
    views: dict[int, set[int]] = {}
    for pid, camid in seen:
        views.setdefault(pid, set()).add(camid)
    lost = []
    for pid, camid in zip(query.pids.tolist(), query.camids.tolist(), strict=True):
        if not views.get(pid, set()) - (set() if hidden == "nothing" else {camid}):
            lost.append(pid)
    where = "" if hidden == "nothing" else " from another camera"
    return _unmatched(lost, len(query), where, name)


def _unmatched(lost: Sequence[int], queries: int, where: str, name: Name) -> list[Finding]:
    if not lost:
        return []
    people = sorted(set(lost))
    what = (
        f"{len(lost):,} of {queries:,} queries have no gallery image of the same person{where}, "
        f"{len(people):,} people: {named(map(name, people))}"
    )
    fix = "they are left out of the accuracies: add such images, or drop the queries"
    return [Finding("warning", what, fix)]


def people_without_query(query: Split, gallery: Split, name: Name = str) -> list[Finding]:
    """People of the gallery without a query."""
    others = np.setdiff1d(gallery.identities, query.identities)
    if not len(others):
        return []
    what = f"{len(others):,} people are in the gallery only: {named(map(name, others))}"
    return [Finding("note", what, "none of them is a query identity: they serve as distractors")]


def unused_numbers(name: str, numbers: np.ndarray) -> list[Finding]:
    """Unused numbers between the lowest and the highest."""
    used = np.unique(numbers)
    if not len(used):
        return []
    low, high = int(used[0]), int(used[-1])
    missing = high - low + 1 - len(used)
    if not missing:
        return []
    after = used[:-1][np.diff(used) > 1] + 1  # the first number of each gap
    what = f"{name} go from {low:,} to {high:,}, {missing:,} of them unused: {named(after)}"
    return [Finding("note", what, "it does no harm, if nothing was lost")]
