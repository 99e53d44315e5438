"""MARS (Zheng et al., ECCV 2016): Market-1501's people and cameras as tracklets of frames.

root/bbox_train and root/bbox_test hold `PPPP/PPPPCcTttttFfff.jpg` (pid, camera, tracklet, frame;
0000 distractors, 00-1 junk). root/info is the owners' MARS-evaluation/info: the name lists, and
tables of (first, last, pid, camera), one row a tracklet, whose first and last line count from 1.

The release's tables have 625 people to train on and 634 to find. The 1,261 of the paper and of
DaRe's table 2 count distractors and junk as two more; DaRe's 635 test people count one of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import JUNK, Benchmark, DatasetError, Split
from reid_lab.files.image_files import escaped
from reid_lab.protocol import TRACKLETS
from reid_lab.types import Count

INFO = ("info", "MARS-evaluation/info", "MARS-evaluation-master/info", ".")
FILES = ("query_IDX.mat",) + tuple(
    name for part in ("train", "test") for name in (f"{part}_name.txt", f"tracks_{part}_info.mat")
)
_REST = {"images": 566596, "pids": 620, "cameras": 6, "tracklets": 10200}
_WHOLE = {"images": 681089, "pids": 634, "cameras": 6, "tracklets": 12180}


def read_mars(
    root: Path | str, frames: Count | None = None, queries_in_gallery: bool = True
) -> Benchmark:
    """MARS as released. `tracks` are rows of the tables, counted from 1.

    The owners' evaluation ranks all 12,180 test tracklets, so a person's queries in other cameras
    are matches; a query does not see itself, as it is its own person in its own camera.

    Args:
        frames: keep so many frames of each tracklet, evenly spaced; None keeps all.
        queries_in_gallery: False leaves the 10,200 other tracklets, as some toolboxes do: 140
            queries then have no match.

    Raises:
        DatasetError: files are missing or unreadable, or the tables contradict the name lists.
    """
    root = Path(root).expanduser()
    info = next((part for part in INFO if (root / part / FILES[0]).exists()), INFO[0])
    layout = ["bbox_train/0001/0001C1T0001F001.jpg ...", "bbox_test/00-1/00-1C1T0001F001.jpg ..."]
    files = [f"{info}/{name}" for name in FILES]
    require("mars", root, ["bbox_train", "bbox_test", *files], [*layout, *files])
    train, _ = _read(root, root / info, "train", frames)
    test, tracklets = _read(root, root / info, "test", frames)
    asked = np.isin(test.tracks, _queries(root / info / FILES[0], tracklets))
    gallery = test if queries_in_gallery else test.take(~asked)
    benchmark = Benchmark("mars", train, test.take(asked), gallery, protocol=TRACKLETS)
    return compared(benchmark, _published(frames, queries_in_gallery))


def _read(root: Path, info: Path, part: str, frames: int | None) -> tuple[Split, int]:
    """The frames of a part, tracklet by tracklet, and how many tracklets there are."""
    listed, table = info / f"{part}_name.txt", info / f"tracks_{part}_info.mat"
    names = np.array(listed.read_bytes().split(), dtype=np.bytes_)
    tracks = _matrix(table)
    if tracks.ndim != 2 or tracks.shape[1] != 4 or not len(tracks):
        raise DatasetError(
            f"{table}: expected rows of first, last, pid, camera, found shape {tracks.shape}: take "
            "the release's"
        )
    first, last, pids, camids = tracks.T
    wrong = np.flatnonzero((first < 1) | (last < first) | (last > len(names)))
    if len(wrong):
        raise DatasetError(
            f"{table}, row {wrong[0] + 1}: lines {first[wrong[0]]} to {last[wrong[0]]} are not in "
            f"{listed.name}, which has {len(names)}: take both from one release"
        )
    line, row = _spaced(first - 1, last - first + 1, frames)
    names = names[line]
    _check_names(table, tracks, names, row)
    folders = np.char.add(f"bbox_{part}/".encode(), names.astype("S4"))
    paths = np.char.add(np.char.add(folders, b"/"), names)
    return Split(root, paths, pids[row], camids[row], row + 1), len(tracks)


def _spaced(first: np.ndarray, length: np.ndarray, frames: int | None) -> tuple[np.ndarray, ...]:
    """(T,) tracklets -> (N,) the lines that are kept, and the tracklet of each.

    The middles of as many equal pieces of the tracklet as frames are kept.
    """
    kept = length if frames is None else np.minimum(length, frames)
    row = np.repeat(np.arange(len(kept)), kept)
    piece = np.arange(len(row)) - np.repeat(np.cumsum(kept) - kept, kept)
    return first[row] + (2 * piece + 1) * length[row] // (2 * kept[row]), row


def _check_names(table: Path, tracks: np.ndarray, names: np.ndarray, row: np.ndarray) -> None:
    """Whether every name starts with the pid and camera of its row.

    Raises:
        DatasetError: one does not.
    """
    people = [("00-1" if p == JUNK else f"{p:04d}", c) for p, c in tracks[:, 2:].tolist()]
    expected = np.array([f"{p}C{c}".encode() for p, c in people])[row]
    wrong = np.flatnonzero(names.astype(expected.dtype) != expected)
    if len(wrong):
        name, start = os.fsdecode(names[wrong[0]]), expected[wrong[0]].decode()
        raise DatasetError(
            f"{table}, row {row[wrong[0]] + 1}: {escaped(name)} should start with {start}: "
            "take the tables and the name lists from one release"
        )


def _queries(path: Path, tracklets: int) -> np.ndarray:
    """Numbers, counted from 1, of the tracklets that ask."""
    numbers = _matrix(path).ravel()
    if not len(numbers) or numbers.min() < 1 or numbers.max() > tracklets:
        raise DatasetError(
            f"{path}: expected rows of tracks_test_info.mat, 1 to {tracklets}: take both from one "
            "release"
        )
    return numbers


def _matrix(path: Path) -> np.ndarray:
    """The only variable of a .mat file, as int64."""
    try:
        (matrix,) = (x for name, x in loadmat(path).items() if not name.startswith("__"))
        return np.asarray(matrix).astype(np.int64)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise DatasetError(
            f"{path} is no table of numbers ({error}): take the release's"
        ) from error


def _published(frames: int | None, queries_in_gallery: bool) -> PublishedCounts:
    counts = {
        "train": {"images": 509914, "pids": 625, "cameras": 6, "tracklets": 8298},
        "query": {"images": 114493, "pids": 626, "cameras": 6, "tracklets": 1980},
        "gallery": _WHOLE if queries_in_gallery else _REST,
    }
    if frames is not None:
        counts = {part: {k: n for k, n in c.items() if k != "images"} for part, c in counts.items()}
    return PublishedCounts("the release's tables; DaRe, table 2", counts)
