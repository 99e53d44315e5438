"""MARS (Zheng et al., ECCV 2016): Market-1501's people and cameras as tracklets of frames.

root/bbox_train and root/bbox_test hold `PPPP/PPPPCcTttttFfff.jpg` (pid, camera, tracklet, frame;
0000 distractors, 00-1 junk). root/info is the owners' MARS-evaluation/info: the name lists, and
tables of (first, last, pid, camera), one row per tracklet; first and last are line numbers.

The release's tables have 625 training and 634 test people. The 1,261 people of the paper and of
DaRe's table 2 include distractors and junk as two more; DaRe's 635 test people include one of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
from scipy.io import loadmat

from reid_lab.dataset.readers.files import require
from reid_lab.dataset.readers.published import PublishedCounts, compared
from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.files.regular import escaped
from reid_lab.protocol import JUNK, TRACKLETS
from reid_lab.types import RANKING, Count

INFO = ("info", "MARS-evaluation/info", "MARS-evaluation-master/info", ".")
FILES = ("query_IDX.mat",) + tuple(
    name for part in ("train", "test") for name in (f"{part}_name.txt", f"tracks_{part}_info.mat")
)
JUNK_TRACKLETS = 870  # 10,200 less torchreid's 9,330
_REST = {"images": 566596, "pids": 620, "cameras": 6, "tracklets": 10200}
_WHOLE = {"images": 681089, "pids": 634, "cameras": 6, "tracklets": 12180}


def read_mars(
    root: Path | str,
    frames: Count | None = None,
    queries_in_gallery: Annotated[bool, RANKING] = True,
    junk_in_gallery: Annotated[bool, RANKING] = True,
) -> Benchmark:
    """Read MARS as released. `tracks` are rows of the tables, counted from 1.

    The authors' evaluation ranks all 12,180 test tracklets, so a person's queries in other cameras
    are matches; the query itself is hidden, as it shows the same person in the same camera.

    Args:
        frames: frames to keep of each tracklet, evenly spaced; None keeps all.
        queries_in_gallery: False removes the queries from the gallery, as some toolboxes do: 10,200
            tracklets remain, and 140 queries have no match.
        junk_in_gallery: False removes the junk, which no ranking contains: fewer images to embed,
            the same accuracies. With `queries_in_gallery=False` this is torchreid's gallery of
            9,330 tracklets.

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
    is_query = np.isin(test.tracks, _queries(root / info / FILES[0], tracklets))
    gallery = test if queries_in_gallery else test.take(~is_query)
    if not junk_in_gallery:
        gallery = gallery.take(gallery.pids != JUNK)
    benchmark = Benchmark("mars", train, test.take(is_query), gallery, protocol=TRACKLETS)
    return compared(benchmark, _published(frames, queries_in_gallery, junk_in_gallery))


def _read(root: Path, info: Path, part: str, frames: int | None) -> tuple[Split, int]:
    """Read the frames of a part in the order of tracklets; also return the number of tracklets."""
    listed, table = info / f"{part}_name.txt", info / f"tracks_{part}_info.mat"
    names = np.array(listed.read_bytes().split(), dtype=np.bytes_)
    tracks = _matrix(table)
    if tracks.ndim != 2 or tracks.shape[1] != 4 or not len(tracks):
        raise DatasetError(
            f"{table}: expected rows of first, last, pid, camera, found shape {tracks.shape}: "
            "download the release's file"
        )
    first, last, pids, camids = tracks.T
    invalid = np.flatnonzero((first < 1) | (last < first) | (last > len(names)))
    if len(invalid):
        raise DatasetError(
            f"{table}, row {invalid[0] + 1}: lines {first[invalid[0]]} to {last[invalid[0]]} are "
            f"not in {listed.name}, which has {len(names)} lines: use files of one release"
        )
    line, row = _spaced(first - 1, last - first + 1, frames)
    names = names[line]
    _check_names(table, tracks, names, row)
    folders = np.char.add(f"bbox_{part}/".encode(), names.astype("S4"))
    paths = np.char.add(np.char.add(folders, b"/"), names)
    return Split(root, paths, pids[row], camids[row], row + 1), len(tracks)


def _spaced(first: np.ndarray, length: np.ndarray, frames: int | None) -> tuple[np.ndarray, ...]:
    """Choose evenly spaced frames of tracklets, the middles of equal pieces.

    Args:
        first: (T,) first line of each tracklet, counted from 0.
        length: (T,) number of frames of each tracklet.
        frames: maximum number of frames per tracklet; None keeps all.

    Returns:
        (N,) lines to keep, and (N,) the tracklet of each.
    """
    kept = length if frames is None else np.minimum(length, frames)
    row = np.repeat(np.arange(len(kept)), kept)
    piece = np.arange(len(row)) - np.repeat(np.cumsum(kept) - kept, kept)
    return first[row] + (2 * piece + 1) * length[row] // (2 * kept[row]), row


def _check_names(table: Path, tracks: np.ndarray, names: np.ndarray, row: np.ndarray) -> None:
    """Check that every name starts with the pid and camera of its row.

    Raises:
        DatasetError: a name does not.
    """
    people = [("00-1" if p == JUNK else f"{p:04d}", c) for p, c in tracks[:, 2:].tolist()]
    expected = np.array([f"{p}C{c}".encode() for p, c in people])[row]
    wrong = np.flatnonzero(names.astype(expected.dtype) != expected)
    if len(wrong):
        name, start = os.fsdecode(names[wrong[0]]), expected[wrong[0]].decode()
        raise DatasetError(
            f"{table}, row {row[wrong[0]] + 1}: {escaped(name)} should start with {start}: "
            "use tables and name lists of one release"
        )


def _queries(path: Path, tracklets: int) -> np.ndarray:
    """Read the numbers of the query tracklets, counted from 1."""
    numbers = _matrix(path).ravel()
    if not len(numbers) or numbers.min() < 1 or numbers.max() > tracklets:
        raise DatasetError(
            f"{path}: expected rows of tracks_test_info.mat, 1 to {tracklets}: use files of one "
            "release"
        )
    return numbers


def _matrix(path: Path) -> np.ndarray:
    """Read the only variable of a .mat file as int64."""
    try:
        (matrix,) = (x for name, x in loadmat(path).items() if not name.startswith("__"))
        return np.asarray(matrix).astype(np.int64)
    except Exception as error:  # damaged files raise errors of any kind
        raise DatasetError(
            f"{path} is not a table of numbers ({error}): download the release's file"
        ) from error


def _published(
    frames: int | None, queries_in_gallery: bool, junk_in_gallery: bool
) -> PublishedCounts:
    counts: dict[str, dict[str, int]] = {
        "train": {"images": 509914, "pids": 625, "cameras": 6, "tracklets": 8298},
        "query": {"images": 114493, "pids": 626, "cameras": 6, "tracklets": 1980},
        "gallery": dict(_WHOLE if queries_in_gallery else _REST),
    }
    if not junk_in_gallery:
        counts["gallery"]["tracklets"] -= JUNK_TRACKLETS
        del counts["gallery"]["images"]  # not published
    if frames is not None:
        counts = {part: {k: n for k, n in c.items() if k != "images"} for part, c in counts.items()}
    return PublishedCounts("the release's tables; DaRe, table 2", counts)
