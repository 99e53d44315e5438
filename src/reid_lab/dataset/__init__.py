"""From a folder of images to batches: readers, PK sampler, transforms, the DataModule."""

from reid_lab.dataset.cuhk03 import read_cuhk03_np
from reid_lab.dataset.datamodule import ReidDataModule
from reid_lab.dataset.market1501 import read_layout, read_market1501
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.dataset.sampler import PKSampler
from reid_lab.dataset.transforms import Transforms

__all__ = [
    "Benchmark",
    "DatasetError",
    "PKSampler",
    "ReidDataModule",
    "Split",
    "Transforms",
    "read_cuhk03_np",
    "read_layout",
    "read_market1501",
]
