"""Market-1501 (Zheng et al., ICCV 2015) and every data set in its layout and names.

root/bounding_box_train, root/query, root/bounding_box_test; an image is called
`PPPP_cCsS_FFFFFF_II.jpg` (pid, camera, sequence, frame, box) or `PPPP_cC_I.jpg`.
"""

from __future__ import annotations

import re
from pathlib import Path

from reid_lab.dataset.divide import allow_one_camera
from reid_lab.dataset.readers.files import pictures, require
from reid_lab.dataset.readers.published import Published, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = re.compile(r"^(-?\d+)_c(\d+)(?:s(\d+))?_.*\.\w+$", re.IGNORECASE)

PUBLISHED = Published(
    "DaRe, table 2",
    {
        "train": {"images": 12936, "pids": 751, "cameras": 6},
        "query": {"images": 3368, "pids": 750, "cameras": 6},
        "gallery": {"images": 19732, "pids": 750, "cameras": 6},
    },
    {("gallery", "images", 15913): "a copy without the junk (pid -1), which changes no accuracy"},
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
    return allow_one_camera(Benchmark(name, train, query, gallery))


def read_market1501(root: Path | str) -> Benchmark:
    """Market-1501-v15.09.15 as released: 751 training and 750 test identities, 6 cameras."""
    return compared(read_layout(root, "market1501"), PUBLISHED)


def read_folder(root: Path, folder: str) -> Split:
    """The images of root/folder, by their names.

    Raises:
        DatasetError: it is empty, or a name does not follow the pattern.
    """
    rows, odd = [], []
    for name in pictures(root / folder):
        match = NAME.match(name)
        if match is None:
            odd.append(name)
            continue
        pid, camid, sequence = match.groups()
        rows.append((f"{folder}/{name}", int(pid), int(camid), int(sequence or 0)))
    if odd:
        raise DatasetError(
            f"{root / folder}: {len(odd)} names are not PPPP_cC..., the first is {odd[0]!r}. "
            "A name gives pid and camera, as in 0001_c1s1_000001_00.jpg: rename or remove it"
        )
    return Split.of(root, rows)
