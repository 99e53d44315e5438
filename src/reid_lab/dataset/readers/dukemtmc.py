"""DukeMTMC-reID (Zheng et al., ICCV 2017; Ristani et al., ECCVW 2016), in Market-1501's layout.

An image is called `PPPP_cC_fFFFFFFF.jpg` (pid, camera, frame). The owners withdrew the data set
in 2019: this reader is for those who hold it.

1,812 people: 702 to train on, 702 queries, and 408 distractors with a pid of their own, who are
seen by one camera and stand in the gallery. Where the texts differ:
    HAN (table 2) counts 1,404 people, without the 408, beside 36,411 images that include theirs.
    The distillation paper's 36,441 images are a slip: 16,522 + 2,228 + 17,661 = 36,411.
    DaRe has 1,404 people in "more than two cameras": two or more. Its table 2 gives the 2,228
    queries as test images, where it gives Market-1501's gallery.
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
    """DukeMTMC-reID as released: 702 training and 702 test identities, 8 cameras.

    Raises:
        DatasetError: see `read_layout`.
    """
    return compared(read_layout(root, "dukemtmc"), PUBLISHED)
