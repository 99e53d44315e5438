"""Market-1501 (Zheng et al., ICCV 2015) and every data set in its layout and names.

root/bounding_box_train, root/query, root/bounding_box_test; an image is called
`PPPP_cCsS_FFFFFF_II.jpg` (pid, camera, sequence, frame, box) or `PPPP_cC_I.jpg`.

The 32,668 boxes of the papers' tables are training and gallery: the 3,368 queries, drawn by hand,
are not among them. JLML's text says 750 training and 751 test people; its table has it right.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_lab.dataset.readers.files import image_names, require, skipped_note
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import DISTRACTOR, Benchmark, DatasetError, Split
from reid_lab.dataset.splits import allow_one_camera

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = re.compile(r"^(-1|\d{1,18})_c(\d{1,18})(?:s(\d{1,18}))?_.*\.\w+$", re.IGNORECASE | re.DOTALL)
HAND_DRAWN = "gt_bbox"
# distractors_500k.zip unpacks to images; copies keep the archive's name, around it or instead
DISTRACTORS = ("images", "distractors_500k/images", "distractors_500k", "distractors")

PUBLISHED = PublishedCounts(
    "DaRe, table 2",
    {
        "train": {"images": 12936, "pids": 751, "cameras": 6},
        "query": {"images": 3368, "pids": 750, "cameras": 6},
        "gallery": {"images": 19732, "pids": 750, "cameras": 6},
    },
    {("gallery", "images", 15913): "a copy without the junk (pid -1), which changes no accuracy"},
)
WITH_DISTRACTORS = PublishedCounts(
    "DaRe, table 2, and 500,000 distractors",
    {**PUBLISHED.counts, "gallery": {"images": 519732, "pids": 750, "cameras": 6}},
    {("gallery", "images", 515913): PUBLISHED.causes["gallery", "images", 15913]},
)


def read_layout(root: Path | str, name: str) -> Benchmark:
    """Read a folder in Market-1501's layout. With one camera, nothing is hidden in the gallery.

    Raises:
        DatasetError: the folder or one of its three parts is missing or empty, or a name does
            not follow the pattern.
    """
    root = Path(root).expanduser()
    layout = [f"{folder}/0001_c1s1_000001_00.jpg ..." for folder in FOLDERS.values()]
    require(name, root, list(FOLDERS.values()), layout)
    train, query, gallery = (read_folder(root, folder) for folder in FOLDERS.values())
    notes = skipped_note(name, *(root / folder for folder in FOLDERS.values()))
    return allow_one_camera(Benchmark(name, train, query, gallery, notes))


def read_market1501(
    root: Path | str, distractors: bool = False, companions: bool = False
) -> Benchmark:
    """Market-1501-v15.09.15 as released: 751 training and 750 test identities, 6 cameras.

    Args:
        distractors: add the images of Market-1501+500k to the gallery, whatever pid their names
            give, as distractors.
        companions: the hand-drawn boxes of each query's person in its camera, which the owners
            pool in a multi-query; without the query's own.

    Raises:
        DatasetError: see `read_layout`; also where what is asked for is not there.
    """
    benchmark = read_layout(root, "market1501")
    if companions:
        benchmark = replace(benchmark, companions=_companions(benchmark.query))
    if not distractors:
        return compared(benchmark, PUBLISHED)
    gallery = Split.concatenate(benchmark.gallery, _distractors(benchmark.gallery.root))
    return compared(replace(benchmark, gallery=gallery), WITH_DISTRACTORS)


def read_folder(root: Path, folder: str) -> Split:
    """The images of root/folder, by their names.

    Raises:
        DatasetError: it is empty, or a name does not follow the pattern.
    """
    rows, odd = [], []
    for name in image_names(root / folder):
        match = NAME.match(name)
        if match is None:
            odd.append(name)
            continue
        pid, camid, sequence = match.groups()
        rows.append((f"{folder}/{name}", int(pid), int(camid), int(sequence or 0)))
    if odd:
        raise DatasetError(
            f"{root / folder}: {len(odd)} names are not PPPP_cC..., the first is {odd[0]!r}. "
            "A name gives pid (1 and above; 0 is a distractor, -1 junk) and camera, as in "
            "0001_c1s1_000001_00.jpg: rename or remove it"
        )
    return Split.of(root, rows)


def _companions(query: Split) -> Split:
    """The hand-drawn boxes of the queries' people in the queries' cameras."""
    layout = [f"{HAND_DRAWN}/0001_c1s1_001051_00.jpg ..."]
    require("market1501 with companions=true", query.root, [HAND_DRAWN], layout)
    drawn = read_folder(query.root, HAND_DRAWN)
    asked = set(zip(query.pids.tolist(), query.camids.tolist(), strict=True))
    own = {name.rpartition(b"/")[2] for name in query.names.tolist()}
    columns = zip(drawn.names.tolist(), drawn.pids.tolist(), drawn.camids.tolist(), strict=True)
    kept = [(p, c) in asked and name.rpartition(b"/")[2] not in own for name, p, c in columns]
    return drawn.take(np.array(kept, dtype=bool))


def _distractors(root: Path) -> Split:
    """The images of Market-1501+500k: pid 0; camera 0 where a name gives none."""
    folder = next((name for name in DISTRACTORS if (root / name).is_dir()), DISTRACTORS[0])
    layout = [f"{folder}/*.jpg (or in {', '.join(DISTRACTORS[1:])})"]
    require("market1501 with distractors=true", root, [folder], layout)
    rows = []
    for name in image_names(root / folder):
        match = NAME.match(name)
        rows.append((f"{folder}/{name}", DISTRACTOR, int(match[2]) if match else 0, 0))
    return Split.of(root, rows)
