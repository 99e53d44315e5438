"""From a folder of images to batches: dataset readers, PK sampler, transforms, the DataModule.

Names are imported on first use, because the processes that render `dataset.synthetic` need no
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_lab.optional import lazy_names

if TYPE_CHECKING:
    from reid_lab.dataset.datamodule import ReidDataModule
    from reid_lab.dataset.readers.atrw import read_atrw
    from reid_lab.dataset.readers.csv_file import read_csv
    from reid_lab.dataset.readers.cuhk03 import read_cuhk03
    from reid_lab.dataset.readers.cuhk03_np import read_cuhk03_np
    from reid_lab.dataset.readers.dukemtmc import read_dukemtmc
    from reid_lab.dataset.readers.folders import read_folders
    from reid_lab.dataset.readers.grid import read_grid
    from reid_lab.dataset.readers.joint import read_joint
    from reid_lab.dataset.readers.market1501 import read_layout, read_market1501
    from reid_lab.dataset.readers.mars import read_mars
    from reid_lab.dataset.readers.msmt17 import read_msmt17
    from reid_lab.dataset.readers.veri776 import read_veri776
    from reid_lab.dataset.readers.viper import read_viper
    from reid_lab.dataset.records import Benchmark, DatasetError, Split
    from reid_lab.dataset.sampler import PKSampler
    from reid_lab.dataset.transforms import Transforms

_HOMES = {
    "Benchmark": "records",
    "DatasetError": "records",
    "PKSampler": "sampler",
    "ReidDataModule": "datamodule",
    "Split": "records",
    "Transforms": "transforms",
    "read_atrw": "readers.atrw",
    "read_csv": "readers.csv_file",
    "read_cuhk03": "readers.cuhk03",
    "read_cuhk03_np": "readers.cuhk03_np",
    "read_dukemtmc": "readers.dukemtmc",
    "read_folders": "readers.folders",
    "read_grid": "readers.grid",
    "read_joint": "readers.joint",
    "read_layout": "readers.market1501",
    "read_market1501": "readers.market1501",
    "read_mars": "readers.mars",
    "read_msmt17": "readers.msmt17",
    "read_veri776": "readers.veri776",
    "read_viper": "readers.viper",
}
__all__ = [
    "Benchmark",
    "DatasetError",
    "PKSampler",
    "ReidDataModule",
    "Split",
    "Transforms",
    "read_atrw",
    "read_csv",
    "read_cuhk03",
    "read_cuhk03_np",
    "read_dukemtmc",
    "read_folders",
    "read_grid",
    "read_joint",
    "read_layout",
    "read_market1501",
    "read_mars",
    "read_msmt17",
    "read_veri776",
    "read_viper",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
