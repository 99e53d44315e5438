"""VeRi-776 (Liu et al., ICME and ECCV 2016): vehicles in 20 cameras of one district.

root/image_train, root/image_query, root/image_test; images are named `VVVV_cCCC_TTTTTTTT_N.jpg`
(vehicle, camera, frame, number).

The folders are read. name_train.txt omits 32 training images, among them all of vehicle 389:
toolboxes that read it train on 37,746 images of 575 vehicles.
"""

from __future__ import annotations

from pathlib import Path

from reid_lab.dataset.readers.market1501 import read_layout
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark

FOLDERS = ("image_train", "image_query", "image_test")
PUBLISHED = PublishedCounts(
    "Liu et al. 2016; the release's read-me",
    {
        "train": {"images": 37778, "pids": 576},
        "query": {"images": 1678, "pids": 200},
        "gallery": {"images": 11579, "pids": 200},
    },
)


def read_veri776(root: Path | str) -> Benchmark:
    """Read VeRi-776 as released: 576 training and 200 test vehicles, 20 cameras.

    Images of the query's vehicle from its camera are hidden, as in Market-1501. The owners also
    rank tracks, which is not available here.

    Raises:
        DatasetError: see `read_layout`.
    """
    example = "0001_c001_00016450_0.jpg"
    return compared(read_layout(root, "veri776", FOLDERS, example), PUBLISHED)
