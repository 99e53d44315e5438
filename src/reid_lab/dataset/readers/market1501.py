"""Market-1501 (Zheng et al., ICCV 2015), and other data sets in its layout.

root/bounding_box_train, root/query, root/bounding_box_test; images are named
`PPPP_cCsS_FFFFFF_II.jpg` (pid, camera, sequence, frame, box) or `PPPP_cC_I.jpg`.

The 32,668 boxes of the papers' tables are training and gallery images, without the 3,368 queries,
which were drawn by hand. JLML's text swaps training and test people (750, 751); its table is right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np

from reid_lab.dataset.readers.files import image_names, require, skipped_note
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.dataset.splits import allow_one_camera
from reid_lab.protocol import DISTRACTOR
from reid_lab.types import RANKING

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = re.compile(r"^(-1|\d{1,18})_c(\d{1,18})(?:s(\d{1,18}))?_.*\.\w+$", re.IGNORECASE | re.DOTALL)
HAND_DRAWN = "gt_bbox"
# distractors_500k.zip unpacks to `images`; copies have other names
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


def read_layout(
    root: Path | str,
    name: str,
    folders: Sequence[str] = tuple(FOLDERS.values()),
    example: str = "0001_c1s1_000001_00.jpg",
) -> Benchmark:
    """Read a folder in Market-1501's layout. If there is one camera, the protocol hides nothing.

    Args:
        name: name of the data set, for messages and results.
        folders: folders of the training, query and gallery images.
        example: example of a file name, for messages.

    Raises:
        DatasetError: the folder or one of its three parts is missing or empty, or a name does
            not match the pattern.
    """
    root = Path(root).expanduser()
    require(name, root, folders, [f"{folder}/{example} ..." for folder in folders])
    train, query, gallery = (read_folder(root, folder) for folder in folders)
    notes = skipped_note(name, *(root / folder for folder in folders))
    return allow_one_camera(Benchmark(name, train, query, gallery, notes))


def read_market1501(
    root: Path | str,
    distractors: Annotated[bool, RANKING] = False,
    multi_query: Annotated[bool, RANKING] = False,
) -> Benchmark:
    """Read Market-1501-v15.09.15 as released: 751 training and 750 test identities, 6 cameras.

    Args:
        root: folder of the release.
        distractors: add the images of Market-1501+500k to the gallery as distractors, whatever the
            pid in their names.
        multi_query: read the hand-drawn boxes of each query's person in its camera, without the
            query itself; the authors pool them in multi-query evaluation.

    Raises:
        DatasetError: see `read_layout`; also if the distractors or hand-drawn boxes are missing.
    """
    benchmark = read_layout(root, "market1501")
    if multi_query:
        benchmark = replace(benchmark, multi_query=_hand_drawn(benchmark.query))
    if not distractors:
        return compared(benchmark, PUBLISHED)
    gallery = Split.concatenate(benchmark.gallery, _distractors(benchmark.gallery.root))
    return compared(replace(benchmark, gallery=gallery), WITH_DISTRACTORS)


def read_folder(root: Path, folder: str) -> Split:
    """Read the images of root/folder; pid, camera and sequence are in their names.

    Raises:
        DatasetError: the folder is empty, or a name does not match the pattern.
    """
    rows, unmatched = [], []
    for name in image_names(root / folder):
        match = NAME.match(name)
        if match is None:
            unmatched.append(name)
            continue
        pid, camid, sequence = match.groups()
        rows.append((f"{folder}/{name}", int(pid), int(camid), int(sequence or 0)))
    if unmatched:
        raise DatasetError(
            f"{root / folder}: {len(unmatched)} names do not match PPPP_cC..., the first is "
            f"{unmatched[0]!r}. A name starts with pid (1 and above; 0 is a distractor, -1 junk) "
            "and camera, as in 0001_c1s1_000001_00.jpg: rename or remove it"
        )
    return Split.of(root, rows)


def _hand_drawn(query: Split) -> Split:
    """Read the hand-drawn boxes of the queries' people in the queries' cameras."""
    layout = [f"{HAND_DRAWN}/0001_c1s1_001051_00.jpg ..."]
    require("market1501 with multi_query=true", query.root, [HAND_DRAWN], layout)
    boxes = read_folder(query.root, HAND_DRAWN)
    of_queries = set(zip(query.pids.tolist(), query.camids.tolist(), strict=True))
    own = {name.rpartition(b"/")[2] for name in query.names.tolist()}
    columns = zip(boxes.names.tolist(), boxes.pids.tolist(), boxes.camids.tolist(), strict=True)
    kept = [(p, c) in of_queries and name.rpartition(b"/")[2] not in own for name, p, c in columns]
    return boxes.take(np.array(kept, dtype=bool))


def _distractors(root: Path) -> Split:
    """Read the images of Market-1501+500k: pid 0; camera 0 if a name has none."""
    folder = next((name for name in DISTRACTORS if (root / name).is_dir()), DISTRACTORS[0])
    layout = [f"{folder}/*.jpg (or in {', '.join(DISTRACTORS[1:])})"]
    require("market1501 with distractors=true", root, [folder], layout)
    rows = []
    for name in image_names(root / folder):
        match = NAME.match(name)
        rows.append((f"{folder}/{name}", DISTRACTOR, int(match[2]) if match else 0, 0))
    return Split.of(root, rows)
