"""Read cuhk-03.mat, the single file of CUHK03's release, and unpack its images as PNG.

MATLAB's v7.3 format is HDF5, with every array transposed. `detected` and `labeled` are cells of
5 pairs of cameras; a pair is a cell of (people, 10) images (H, W, 3) uint8: columns 1 to 5 are of
its first view, 6 to 10 of its second, and missing images are empty. `testsets` is a cell of 20
arrays (100, 2) of pair and person, counted from 1.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from PIL import Image

from reid_lab.dataset.readers.checks import check_split, expecting
from reid_lab.dataset.records import DatasetError
from reid_lab.files.atomic import flush_all
from reid_lab.files.outputs import check_outside
from reid_lab.images.pixels import MAX_PIXELS
from reid_lab.optional import load
from reid_lab.output.console import progress

if TYPE_CHECKING:
    import h5py

VIEW_IMAGES = 5  # images of a person in a view, at most
PersonKey = tuple[int, int]  # (pair of cameras, number within it), both from 1


def read_test_set(path: Path, split: int) -> set[PersonKey]:
    """Read the people of a test set of the old protocol.

    Raises:
        DatasetError: the file cannot be read, or the test set is unknown.
    """
    with _opened(path) as file:
        sets = _cell(file, "testsets")
        check_split("cuhk03", split, len(sets))
        people = _value(file, sets[split])
    if people is None or people.ndim != 2 or people.shape[1] != 2:
        raise _not_released(path, f"testsets{{{split + 1}}} is not a list of pair, person")
    with expecting(path, f"testsets{{{split + 1}}} to be whole numbers"):
        return {(int(pair), int(person)) for pair, person in people}


def unpack(path: Path, boxes: str, cache_dir: Path) -> Path:
    """Unpack the images of `boxes` as `{pair}_{person:03d}_{view}_{column:02d}.png`.

    One process writes them, once, while others wait. An interrupted unpacking starts over.

    Returns:
        The folder of the images, in `cache_dir`.

    Raises:
        DatasetError: the file cannot be read, or the folder cannot be written.
    """
    check_outside(cache_dir, DatasetError)
    stat = path.stat()
    key = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_dir / f"cuhk03-{boxes}-{key}"
    if folder.is_dir():
        return folder
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not folder.is_dir():  # unless another process was first
                _unpack_to(path, boxes, folder)
    except OSError as error:
        raise DatasetError(
            f"cuhk03: the images cannot be unpacked in {cache_dir} ({error}): free about "
            "1 GB there, or set dataset.cache_dir"
        ) from error
    return folder


def _unpack_to(path: Path, boxes: str, folder: Path) -> None:
    partial = folder.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with _opened(path) as file, progress() as bar:
            cells = list(_cells(file, boxes))
            for name, cell in bar.track(cells, description=f"unpack {path.name} ({boxes})"):
                image = _value(file, cell)
                if image is None:
                    continue
                if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                    raise _not_released(
                        path, f"{name[:-4]} is {image.dtype} {image.shape}, not an image"
                    )
                Image.fromarray(np.ascontiguousarray(image)).save(partial / name, compress_level=1)
        flush_all()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _cells(file: h5py.File, boxes: str) -> Iterator[tuple[str, h5py.Reference]]:
    """Yield the file name and the reference of each image, including empty cells."""
    for pair, reference in enumerate(_cell(file, boxes), 1):
        people = _value(file, reference)
        if people is None or people.ndim != 2 or people.shape[1] != 2 * VIEW_IMAGES:
            shape = None if people is None else people.shape
            raise _not_released(file.filename, f"{boxes}{{{pair}}} is {shape} and not (people, 10)")
        for person, images in enumerate(people, 1):
            for column, cell in enumerate(images, 1):
                view = 1 if column <= VIEW_IMAGES else 2
                yield f"{pair}_{person:03d}_{view}_{column:02d}.png", cell


def _cell(file: h5py.File, name: str) -> np.ndarray:
    """Return the references in a cell vector."""
    cell = file.get(name)
    h5py = load("h5py", file.filename)
    if not isinstance(cell, h5py.Dataset) or h5py.check_ref_dtype(cell.dtype) is None:
        raise _not_released(file.filename, f"it has no cell array {name!r}, only {', '.join(file)}")
    result: np.ndarray = cell[()].ravel()
    return result


def _value(file: h5py.File, reference: h5py.Reference) -> np.ndarray | None:
    """Read an array in MATLAB's axis order; None if it is empty (stored as its shape, 1-D)."""
    try:
        dataset = file[reference]
        empty = dataset.attrs.get("MATLAB_empty", 0) or dataset.ndim < 2
        if empty:
            return None
        if dataset.size > 3 * MAX_PIXELS:
            raise ValueError(f"an array of {dataset.shape}; the limit is {MAX_PIXELS:,} pixels")
        result: np.ndarray | None = dataset[()].T
        return result
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _not_released(file.filename, f"it is damaged ({error})") from error


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    h5py = load("h5py", str(path))
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise _not_released(path, f"it is not a complete MATLAB v7.3 file ({error})") from error
    with file:
        yield file


def _not_released(path: Path | str, what: str) -> DatasetError:
    return DatasetError(f"{path} is not cuhk-03.mat as released: {what}. Extract the release again")
