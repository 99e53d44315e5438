"""CUHK03-NP: CUHK03 (Li et al., CVPR 2014) under the new protocol of Zhong et al. (CVPR 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from reid_lab.dataset.readers.market1501 import read_layout
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark

Boxes = Literal["detected", "labeled"]

# 767 training and 700 test identities, each seen by a pair of cameras
_SOURCE = "Zhong et al. 2017, table 1"
PUBLISHED = {
    "detected": PublishedCounts(
        _SOURCE,
        {
            "train": {"images": 7365, "pids": 767, "cameras": 2},
            "query": {"images": 1400, "pids": 700, "cameras": 2},
            "gallery": {"images": 5332, "pids": 700, "cameras": 2},
        },
    ),
    "labeled": PublishedCounts(
        _SOURCE,
        {
            "train": {"images": 7368, "pids": 767, "cameras": 2},
            "query": {"images": 1400, "pids": 700, "cameras": 2},
            "gallery": {"images": 5328, "pids": 700, "cameras": 2},
        },
    ),
}


def read_cuhk03_np(root: Path | str, boxes: Boxes = "detected") -> Benchmark:
    """Read CUHK03-NP.

    Args:
        root: the release's `detected` or `labeled` folder, or their parent.
        boxes: boxes of a detector, or labeled by hand.

    Raises:
        DatasetError: see `read_layout`.
    """
    root = Path(root).expanduser()
    if (root / boxes).is_dir():
        root = root / boxes
    return compared(read_layout(root, f"cuhk03_np_{boxes}"), PUBLISHED[boxes])
