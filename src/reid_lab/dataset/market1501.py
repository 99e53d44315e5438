"""Market-1501 (Zheng et al., ICCV 2015) and every data set in its layout and names.

root/bounding_box_train, root/query, root/bounding_box_test; an image is called
`PPPP_cCsS_FFFFFF_II.jpg` (pid, camera, sequence, frame, box) or `PPPP_cC_I.jpg`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reid_lab.dataset.records import Benchmark, DatasetError, Split

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = re.compile(r"^(-?\d+)_c(\d+)(?:s(\d+))?_.*\.(?:jpg|jpeg|png|bmp)$", re.IGNORECASE)
PICTURE = re.compile(r"\.(?:jpg|jpeg|png|bmp)$", re.IGNORECASE)

# DaRe, table 2. The gallery's 19,732 files include the junk (pid -1); lists that give
# 15,913 leave it out.
MARKET_COUNTS = {
    "train": {"images": 12936, "pids": 751, "cameras": 6},
    "query": {"images": 3368, "pids": 750, "cameras": 6},
    "gallery": {"images": 19732, "pids": 750, "cameras": 6},
}


def read_layout(
    root: Path | str, name: str, expected: Mapping[str, Mapping[str, int]] | None = None
) -> Benchmark:
    """Read a folder in Market-1501's layout; with `expected` counts, note what differs.

    Raises:
        DatasetError: the folder or one of its three parts is missing or empty, a name does
            not follow the pattern, or no training image is there.
    """
    root = Path(root).expanduser()
    _require_layout(root, name)
    train, query, gallery = (_read_folder(root, folder) for folder in FOLDERS.values())
    benchmark = Benchmark(name, train, query, gallery)
    return replace(benchmark, notes=tuple(_differences(benchmark, expected or {})))


def read_market1501(root: Path | str) -> Benchmark:
    """Market-1501-v15.09.15 as released: 751 training and 750 test identities, 6 cameras."""
    return read_layout(root, "market1501", MARKET_COUNTS)


def _require_layout(root: Path, name: str) -> None:
    missing = [folder for folder in FOLDERS.values() if not (root / folder).is_dir()]
    if not missing:
        return
    layout = "\n".join(
        f"    {root}/{folder}/0001_c1s1_000001_00.jpg ..." for folder in FOLDERS.values()
    )
    what = "does not exist" if not root.is_dir() else f"has no {', '.join(missing)}"
    inside = [p for p in root.glob("*/query") if p.is_dir()] if root.is_dir() else []
    hint = f"did you mean dataset.root={inside[0].parent}?" if inside else "set dataset.root"
    raise DatasetError(f"{name}: {root} {what}. Expected:\n{layout}\n  {hint}")


def _read_folder(root: Path, folder: str) -> Split:
    rows, odd = [], []
    with os.scandir(root / folder) as entries:
        names = sorted(entry.name for entry in entries if PICTURE.search(entry.name))
    for name in names:
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
    if not rows:
        raise DatasetError(f"{root / folder} holds no image: expected 0001_c1s1_000001_00.jpg ...")
    return Split.of(root, rows)


def _differences(benchmark: Benchmark, expected: Mapping[str, Mapping[str, int]]) -> list[str]:
    found = benchmark.counts()
    return [
        f"{benchmark.name}: {part} has {found[part][what]:,} {what}, published: {count:,} "
        "(another release, or an incomplete copy)"
        for part, counts in expected.items()
        for what, count in counts.items()
        if found[part][what] != count
    ]
