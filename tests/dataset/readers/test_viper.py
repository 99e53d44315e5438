"""VIPeR on a miniature release in the true layout and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_lab.dataset import DatasetError, Split, read_viper
from reid_lab.dataset.readers.viper import half
from reid_lab.dataset.splits import check_rankable
from reid_lab.protocol import Protocol
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.evaluation import rank_trials
from reid_lab.retrieval.ranking import rank

PEOPLE = [0, 1, 5, 87, 632, 872]  # as released: from 0, with gaps


def write_bmps(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 128)).save(root / name)
    return root


@pytest.fixture
def release(tmp_path: Path) -> Path:
    a = [
        f"cam_a/{person:03d}_{angle}.bmp" for person, angle in zip(PEOPLE, [45, 0] * 3, strict=True)
    ]
    b = [
        f"cam_b/{person:03d}_{angle}.bmp"
        for person, angle in zip(PEOPLE, [90, 180] * 3, strict=True)
    ]
    return write_bmps(tmp_path / "VIPeR", a + b)


def test_halves_and_views(release: Path) -> None:
    benchmark = read_viper(release)
    train, query, gallery = benchmark.train, benchmark.query, benchmark.gallery
    assert sorted([*train.identities, *query.identities]) == [person + 1 for person in PEOPLE]
    assert len(train.identities) == 3
    assert query.pids.tolist() == gallery.pids.tolist()
    assert (set(query.camids), set(gallery.camids), set(train.camids)) == ({1}, {2}, {1, 2})
    for split in (train, query, gallery):
        for index, pid in enumerate(split.pids):
            assert split.path(index).is_file()
            assert split.path(index).name.startswith(f"{pid - 1:03d}_")
    check_rankable("viper", query, gallery, benchmark.protocol.hidden)
    assert "train images: expected 632, found 6;" in benchmark.notes[0]


def test_both_directions_are_averaged(release: Path) -> None:
    one, both = read_viper(release), read_viper(release, directions="both")
    assert (both.name, both.protocol) == ("viper_0_both", one.protocol)
    assert both.train.names.tolist() == one.train.names.tolist()
    assert both.query.names.tolist() == [*one.query.names.tolist(), *one.gallery.names.tolist()]
    rows = {name: torch.from_numpy(embed(name)) for name in both.query.names.tolist()}
    there = ranks(rows, one.query, one.gallery, one.protocol)
    back = ranks(rows, one.gallery, one.query, one.protocol)
    assert ranks(rows, both.query, both.gallery, both.protocol) == there + back
    assert sum(there) != sum(back)
    assert "query images: expected 632, found 6;" in both.notes[0]


def embed(name: bytes) -> np.ndarray:
    return np.random.default_rng(list(name)).normal(size=2).astype(np.float32)


def ranks(
    rows: dict[bytes, torch.Tensor], query: Split, gallery: Split, protocol: Protocol
) -> list[int]:
    """Rank of each query's match."""
    q, g = (torch.stack([rows[name] for name in x.names.tolist()]) for x in (query, gallery))
    found = rank_trials(rank, q, g, Ids.of(query), Ids.of(gallery), protocol=protocol)
    result: list[int] = found.first[0].tolist()
    return result


def test_halves_never_change() -> None:
    pids = np.arange(1, 633)
    assert half(pids, 0, 0)[:5] == [571, 441, 132, 418, 548]
    halves = [frozenset(half(pids, split, 0)) for split in range(10)]
    assert {len(people) for people in halves} == {316}
    assert len(set(halves)) == 10
    shared = [len(a & b) for a in halves for b in halves if a != b]
    assert 130 < min(shared) <= max(shared) < 190  # 158 of 316 by chance
    assert set(half(pids, 0, 1)) not in halves
    assert half(pids[::-1], 3, 0) == half(pids, 3, 0)


def test_a_split_is_a_half_of_its_own(release: Path) -> None:
    queries = {tuple(read_viper(release, split).query.pids) for split in range(10)}
    assert len(queries) > 1
    with pytest.raises(DatasetError, match=r"unknown split 10.*split=0 to 9"):
        read_viper(release, 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cam_a/900_45.bmp", r"people \[900\] are in one camera only"),
        ("cam_a/087_135.bmp", "some have two in a camera"),
        ("cam_b/holiday.bmp", r"1 names do not match 000_45\.bmp.*holiday\.bmp"),
    ],
)
def test_releases_that_do_not_pair(release: Path, name: str, message: str) -> None:
    write_bmps(release, [name])
    with pytest.raises(DatasetError, match=message):
        read_viper(release)


def test_two_in_both_cameras(release: Path) -> None:
    write_bmps(release, ["cam_a/087_135.bmp", "cam_b/087_135.bmp"])
    with pytest.raises(DatasetError, match="some have two in a camera"):
        read_viper(release)


def test_missing_folder_shows_the_layout(release: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)cam_b/000_90\.bmp.*dataset\.root=.*VIPeR"):
        read_viper(release.parent)
