"""DukeMTMC-reID (Zheng et al., ICCV 2017; Ristani et al., ECCVW 2016), in Market-1501's layout.

An image is called `PPPP_cC_fFFFFFFF.jpg` (pid, camera, frame). The owners withdrew the data set
in 2019: this reader is for those who have a copy.

1,812 people: 702 for training, 702 queries, and 408 distractors that have a pid, are seen by one
camera only and are in the gallery. Published numbers that differ:
    HAN (table 2) counts 1,404 people, without the 408, but 36,411 images, with theirs.
    The distillation paper's 36,441 images are a typo: 16,522 + 2,228 + 17,661 = 36,411.
    DaRe's 1,404 people in "more than two cameras" are in two or more. Its table 2 counts the 2,228
    queries as test images; for Market-1501 it counts the gallery.
"""

from __future__ import annotations

from pathlib import Path

from reid_lab.dataset.readers.market1501 import read_layout
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark

PUBLISHED = PublishedCounts(
    "PLA, table 1",
    {
        "train": {"images": 16522, "pids": 702, "cameras": 8},
        "query": {"images": 2228, "pids": 702, "cameras": 8},
        "gallery": {"images": 17661, "pids": 1110, "cameras": 8},
    },
)


def read_dukemtmc(root: Path | str) -> Benchmark:
    """Read DukeMTMC-reID as released: 702 training and 702 test identities, 8 cameras.

    Raises:
        DatasetError: see `read_layout`.
    """
    return compared(read_layout(root, "dukemtmc"), PUBLISHED)
