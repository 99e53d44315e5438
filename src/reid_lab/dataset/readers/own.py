"""What the readers of your own images share: labels become numbers, and people are divided."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_lab.dataset.records import DISTRACTOR, JUNK, Benchmark, DatasetError, Split
from reid_lab.dataset.splits import allow_one_camera, query_and_gallery
from reid_lab.files.image_files import escaped

WHOLE = re.compile(r"(-?)0*([0-9]+)(?:\.0*)?")  # pandas writes 7.0 into columns with gaps
PART_SETS = ({"train", "query", "gallery"}, {"train", "test"})  # the two ways to divide by hand
INTEGER = re.compile(r"-?[0-9]{1,18}")  # what int64 holds
Names = dict[int, str]
RESERVED = {str(JUNK), str(DISTRACTOR)}
MAX_LISTED = 5  # problems that one message names


def normalise_label(text: str) -> str:
    """Whole numbers in one spelling (`7`, ` 7 `, `007` and `7.0` are 7), other text as it is."""
    text = text.strip() or text
    match = WHOLE.fullmatch(text)
    if match is None:
        return text
    return "0" if match[2] == "0" else match[1] + match[2]


def number_labels(texts: Sequence[str], kept: Collection[str] = ()) -> tuple[np.ndarray, Names]:
    """(N,) int64, and how the data calls each number where that is another text.

    Integers keep their value where all are, and fit into 64 bits; else labels are numbered 1, 2,
    ... in sorted order. Labels in `kept` are integers that keep their value beside text too.
    """
    labels = [normalise_label(text) for text in texts]
    if all(INTEGER.fullmatch(label) for label in labels):
        return np.array([int(label) for label in labels], dtype=np.int64), {}
    names = dict(enumerate(sorted(set(labels) - set(kept)), 1))
    numbers = {label: int(label) for label in kept}
    numbers |= {label: number for number, label in names.items()}
    return np.array([numbers[label] for label in labels], dtype=np.int64), names


def number_people(texts: Sequence[str]) -> tuple[np.ndarray, Names]:
    """Labels of people, numbered; `0` (nobody known) and `-1` (junk) stay what they mean."""
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
    """The benchmark of `images` by their `parts`, (N,) text; None divides the people by `seed`.

    With `tracklets`, these are what asks and is ranked. `people` and `cameras` are names of pids
    and camids.

    Raises:
        DatasetError: `train_share` leaves nobody to train on or to test on.
    """
    notes: tuple[str, ...] = ()
    if parts is None:
        parts = _drawn(name, images, train_share, seed)
        count, nobody = len(images.identities), int((images.pids <= DISTRACTOR).sum())
        trained = len(images.take(parts == "train").identities)
        left = f"; {nobody:,} images of pid 0 or -1 (nobody's) are gallery" if nobody else ""
        unit = "tracklet" if tracklets else "image"
        notes = (
            f"{name}: divided by train_share={train_share}, seed={seed}: {trained:,} of {count:,} "
            f"identities train, the others are tested; the first {unit} of a person in a camera is "
            f"a query{left}",
        )
    if "test" in parts:
        query, gallery = query_and_gallery(images.take(parts == "test"), tracklets)
    else:
        query, gallery = images.take(parts == "query"), images.take(parts == "gallery")
    train = images.take(parts == "train")
    asked = query.take(query.pids > DISTRACTOR)
    if lost := len(query) - len(asked):
        query, note = asked, f"{name}: {lost:,} queries of pid 0 or -1 (nobody's) are left out"
        notes = (*notes, note)
    benchmark = Benchmark(
        name, train, query, gallery, notes, people=people or {}, cameras=cameras or {}
    )
    benchmark = allow_one_camera(benchmark)
    return replace(benchmark, protocol=replace(benchmark.protocol, tracklets=tracklets))


def check_parts(where: str, parts: set[str]) -> None:
    """Whether the parts that were given by hand divide the images.

    Raises:
        DatasetError: they are neither train, query and gallery, nor train and test.
    """
    if parts not in PART_SETS:
        raise DatasetError(
            f"{where}: the images are divided into {', '.join(sorted(parts))}. Expected train, "
            "query and gallery, or train and test (its queries are chosen then)"
        )


def raise_problems(where: Path, problems: Sequence[str], fix: str) -> None:
    """Raise one DatasetError that names up to five `problems`; nothing where there is none."""
    if not problems:
        return
    listed = [*map(escaped, problems[:MAX_LISTED]), *["..."] * (len(problems) > MAX_LISTED)]
    lines = "".join(f"\n    {line}" for line in listed)
    count = f"{len(problems):,} problem{'s' * (len(problems) > 1)}"
    raise DatasetError(f"{escaped(where)}: {count}{lines}\n  {fix}")


def _drawn(name: str, images: Split, share: float, seed: int) -> np.ndarray:
    people = images.identities
    count = round(share * len(people))
    if not 0 < count < len(people):
        raise DatasetError(
            f"{name}: train_share={share} of {len(people)} identities leaves {count} to train on "
            f"and {len(people) - count} to test on. Allowed: a share that leaves one for each"
        )
    chosen = np.random.default_rng(seed).permutation(people)[:count]
    return np.where(np.isin(images.pids, chosen), "train", "test")
