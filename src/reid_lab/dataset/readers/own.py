"""Shared by the readers of your own images: number the labels and split the people."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_lab.dataset.notes import Info
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.dataset.splits import allow_one_camera, query_and_gallery
from reid_lab.errors import first
from reid_lab.files.regular import escaped
from reid_lab.protocol import DISTRACTOR, JUNK

WHOLE_NUMBER = re.compile(r"(-?)0*([0-9]+)(?:\.0*)?")  # pandas writes 7.0 into columns with gaps
PART_SETS = ({"train", "query", "gallery"}, {"train", "test"})  # the two ways to split by hand
INTEGER = re.compile(r"-?[0-9]{1,18}")  # integers that int64 holds
Names = dict[int, str]
RESERVED = {str(JUNK), str(DISTRACTOR)}


def normalise_label(text: str) -> str:
    """Write whole numbers in one way (`7`, ` 7 `, `007` and `7.0` are 7); keep other text."""
    text = text.strip() or text
    match = WHOLE_NUMBER.fullmatch(text)
    if match is None:
        return text
    return "0" if match[2] == "0" else match[1] + match[2]


def given_label(text: str) -> str:
    """As `normalise_label`, but digits stay as they are: `007` is 007, and `7.0` is 7."""
    return text.strip() if text.strip().isdecimal() else normalise_label(text)


def number_labels(texts: Sequence[str], kept: Collection[str] = ()) -> tuple[np.ndarray, Names]:
    """Turn text labels into numbers.

    If all labels are integers of 64 bits, they keep their values. Otherwise the labels are numbered
    1, 2, ... in sorted order, except those in `kept`, integers that keep their value beside text.

    Returns:
        (N,) int64, and number -> label (empty if the labels keep their values).
    """
    labels = [normalise_label(text) for text in texts]
    if all(INTEGER.fullmatch(label) for label in labels):
        return np.array([int(label) for label in labels], dtype=np.int64), {}
    names = dict(enumerate(sorted(set(labels) - set(kept)), 1))
    numbers = {label: int(label) for label in kept}
    numbers |= {label: number for number, label in names.items()}
    return np.array([numbers[label] for label in labels], dtype=np.int64), names


def number_people(texts: Sequence[str]) -> tuple[np.ndarray, Names]:
    """Number the labels of people; `0` (distractor) and `-1` (junk) keep their meaning."""
    return number_labels(texts, RESERVED)


def make_benchmark(
    name: str,
    images: Split,
    parts: np.ndarray | None,
    train_share: float,
    seed: int,
    tracklets: bool = False,
    people: Names | None = None,
    cameras: Names | None = None,
) -> Benchmark:
    """Split images into train, query and gallery.

    Args:
        parts: (N,) text: train, query, gallery or test of each image. None: people are assigned to
            train or test at random.
        train_share: fraction of the people to train on if `parts` is None.
        seed: random seed of that assignment.
        tracklets: rank tracklets instead of images.
        people, cameras: pid or camid -> name.

    Raises:
        DatasetError: `train_share` leaves no one to train on or to test on.
    """
    notes: tuple[str, ...] = ()
    if parts is None:
        parts = _random_parts(name, images, train_share, seed)
        count, others = len(images.identities), int((images.pids <= DISTRACTOR).sum())
        trained = len(images.take(parts == "train").identities)
        rest = f"; {others:,} images of pid 0 or -1 are gallery images" if others else ""
        unit = "tracklet" if tracklets else "image"
        split = Info(
            f"{name}: split by train_share={train_share}, seed={seed}: {trained:,} of {count:,} "
            f"identities for training, the others for test; the first {unit} of a person in a "
            f"camera is a query{rest}"
        )
        notes = (split,)
    if "test" in parts:
        query, gallery = query_and_gallery(images.take(parts == "test"), tracklets)
    else:
        query, gallery = images.take(parts == "query"), images.take(parts == "gallery")
    train = images.take(parts == "train")
    people_only = query.take(query.pids > DISTRACTOR)
    if dropped := len(query) - len(people_only):
        query, note = people_only, f"{name}: {dropped:,} queries of pid 0 or -1 are left out"
        notes = (*notes, note)
    benchmark = Benchmark(
        name, train, query, gallery, notes, people=people or {}, cameras=cameras or {}
    )
    benchmark = allow_one_camera(benchmark)
    return replace(benchmark, protocol=replace(benchmark.protocol, tracklets=tracklets))


def check_parts(where: str, parts: set[str]) -> None:
    """Check the set of parts that the user gave.

    Raises:
        DatasetError: it is neither train, query and gallery, nor train and test.
    """
    if parts not in PART_SETS:
        raise DatasetError(
            f"{where}: the images are split into {', '.join(sorted(parts))}. Expected train, "
            "query and gallery, or train and test (queries are then chosen from test)"
        )


def raise_problems(where: Path, problems: Sequence[str], fix: str) -> None:
    """Raise a DatasetError that lists up to five `problems` and the `fix`, if there are any."""
    if not problems:
        return
    lines = "".join(f"\n    {escaped(line)}" for line in first(problems))
    count = f"{len(problems):,} problem{'s' * (len(problems) > 1)}"
    raise DatasetError(f"{escaped(where)}: {count}{lines}\n  {fix}")


def _random_parts(name: str, images: Split, share: float, seed: int) -> np.ndarray:
    people = images.identities
    count = round(share * len(people))
    if not 0 < count < len(people):
        raise DatasetError(
            f"{name}: train_share={share} of {len(people)} identities leaves {count} to train on "
            f"and {len(people) - count} to test on. Leave one or more for each: "
            "set dataset.reader.train_share, or add people"
        )
    chosen = np.random.default_rng(seed).permutation(people)[:count]
    return np.where(np.isin(images.pids, chosen), "train", "test")
