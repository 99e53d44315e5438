"""MSMT17 (Wei et al., CVPR 2018): 15 cameras, four days; V2 is V1 with the faces masked.

root/list_{train,val,query,gallery}.txt, one line `PPPP/PPPP_III_CC_....jpg LABEL` per image (CC is
the camera), below root/train and root/test (V1) or root/mask_train_v2 and root/mask_test_v2 (V2).
HAN's table 2 agrees: 126,441 = 32,621 training + 11,659 query + 82,161 gallery images.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from reid_lab.dataset.notes import Info
from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.dataset.splits import allow_one_camera

RELEASES = {"v1": ("train", "test"), "v2": ("mask_train_v2", "mask_test_v2")}
LINE = re.compile(r"^((?:\S+/)?[^\s/_]+_[^\s/_]+_(\d{1,18})_[^\s/]+)\s+(\d{1,17})$")

_SOURCE = "Wei et al. 2018; the release's lists"
_TEST = {
    "query": {"images": 11659, "pids": 3060, "cameras": 15},
    "gallery": {"images": 82161, "pids": 3060, "cameras": 15},
}
PUBLISHED = {
    True: PublishedCounts(
        _SOURCE, {"train": {"images": 32621, "pids": 1041, "cameras": 15}, **_TEST}
    ),
    False: PublishedCounts(
        _SOURCE, {"train": {"images": 30248, "pids": 1041, "cameras": 15}, **_TEST}
    ),
}


def read_msmt17(root: Path | str, val: bool = True) -> Benchmark:
    """Read MSMT17, V1 or V2, as released: 1,041 training and 3,060 test identities, 15 cameras.

    Labels start at 0 in both training and test. Pids are labels + 1; test pids follow the last
    training pid.

    Args:
        val: also train on list_val.txt, 2,373 more images of the same people, as published:
            32,621. False gives the 30,248 of torchreid. A note in the results says which.

    Raises:
        DatasetError: a folder or list is missing, a list is empty, or a line is invalid.
    """
    root = Path(root).expanduser()
    release = next((r for r, folders in RELEASES.items() if (root / folders[0]).is_dir()), "v1")
    train_folder, test_folder = RELEASES[release]
    names = ["train", "val", "query", "gallery"] if val else ["train", "query", "gallery"]
    lists = [f"list_{name}.txt" for name in names]
    layout = [
        f"{train_folder}/0000/0000_000_01_0303morning_0015_0.jpg ... (V2: {RELEASES['v2'][0]})",
        f"{test_folder}/0000/0000_000_14_0303morning_0022_1.jpg ... (V2: {RELEASES['v2'][1]})",
        *(f"{name}: 0000/0000_000_01_0303morning_0015_0.jpg 0 ..." for name in lists),
    ]
    require("msmt17", root, [train_folder, test_folder, *lists], layout)
    train = Split.concatenate(*(_read(root, name, train_folder, 1) for name in lists[:-2]))
    first = int(train.pids.max()) + 1
    query, gallery = (_read(root, name, test_folder, first) for name in lists[-2:])
    trained = "list_train.txt and list_val.txt" if val else "list_train.txt only"
    other = "false: list_train.txt only, 30,248" if val else "true: with list_val.txt, 32,621"
    note = Info(
        f"msmt17_{release}: trains on {trained}, {len(train):,} images (dataset.reader.val={other})"
    )
    benchmark = Benchmark(f"msmt17_{release}", train, query, gallery, notes=(note,))
    return compared(allow_one_camera(benchmark), PUBLISHED[val])


def _read(root: Path, listed: str, folder: str, first: int) -> Split:
    """Read the images of a list, below `folder`; label 0 becomes pid `first`."""
    rows = []
    lines = os.fsdecode((root / listed).read_bytes()).splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = LINE.match(line.strip())
        if match is None:
            raise DatasetError(
                f"{root / listed}, line {number}: {line!r} is not PPPP/PPPP_III_CC_....jpg LABEL, "
                "as in '0000/0000_000_01_0303morning_0015_0.jpg 0': use the list of the release"
            )
        name, camid, label = match.groups()
        rows.append((f"{folder}/{name}", int(label) + first, int(camid), 0))
    if not rows:
        raise DatasetError(f"{root / listed} is empty: use the list of the release")
    return Split.of(root, rows)
