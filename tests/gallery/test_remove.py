"""Metadata of a gallery's images, filters on it, and images that are removed from the disk."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.files.atomic import DiskFullError, disk_full
from reid_lab.gallery.content import remove_images
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.writer import create, extend
from reid_lab.gallery_format import writer as gallery_writer
from reid_lab.gallery_format.card import Card, GalleryError
from reid_lab.gallery_format.conditions import quoted
from reid_lab.gallery_format.writer import FORGOTTEN, locked
from reid_lab.runtime.gallery import Gallery
from tests.gallery.test_index import people
from tests.gallery.test_store import CARD, MODEL, ids

NAMES = ["Ann Lee", "7", "Zoë", ""]
SITES = ["north", "", "south <b>", "nörth"]
COUNT = 40


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Forty images of Ann Lee, 7, Zoë and somebody unknown; some with metadata."""
    with create(tmp_path / "g", CARD) as writer:
        writer.append(people()[:4], ids(100, 104))
    gallery = Gallery.open_rows(tmp_path / "g")
    gallery, _ = gallery.remove("path!=''")
    assert not len(gallery)
    for start in range(0, COUNT, 8):
        gallery = gallery.add(**rows(start, start + 8))
    return gallery


def rows(first: int, last: int, folder: str = "/images") -> dict[str, Any]:
    """What `Gallery.add` takes."""
    numbers = range(first, last)
    return {
        "embeddings": people()[first:last],
        "paths": [f"{folder}/{i:03d}.jpg" for i in numbers],
        "people": [NAMES[i % 4] for i in numbers],
        "cameras": [f"door {i % 3}" for i in numbers],
        "columns": {
            "site": [SITES[i % 4] for i in numbers],
            "time": [f"2026-01-{1 + i % 28:02d}" for i in numbers],
        },
    }


def content(gallery: Any) -> list[tuple[Any, ...]]:
    """What a gallery holds, image by image."""
    people, cameras = gallery.names_of("pid"), gallery.names_of("camid")
    values = map(gallery.values, range(len(gallery)))
    vectors = [row.tobytes() for row in np.array(gallery.checked)]
    return list(zip(gallery.paths(), people, cameras, values, vectors, strict=True))


def reopened(gallery: Gallery) -> Gallery:
    return Gallery.open_rows(gallery.folder)


def test_names_and_metadata_are_kept(gallery: Gallery) -> None:
    assert content(reopened(gallery)) == content(gallery)
    assert gallery.names_of("pid") == NAMES * 10
    assert gallery.column("site") == SITES * 10
    assert gallery.values(0) == {"site": "north", "time": "2026-01-01"}
    assert gallery.values(1) == {"time": "2026-01-02"}


def test_images_without_metadata_come_before_and_after_those_with_it(tmp_path: Path) -> None:
    with create(tmp_path / "g", CARD) as writer:
        writer.append(people()[:3], ids(100, 103))
    plain = Gallery.open_rows(tmp_path / "g")
    assert plain.values(2) == {} and not (tmp_path / "g" / "columns.jsonl").exists()
    both = plain.add(**rows(3, 5))
    with extend(SavedGallery.open(both.folder), MODEL) as more:
        more.append(people()[5:7], ids(105, 107))
    found = SavedGallery.open(both.folder)
    assert found.column("time") == ["", "", "", "2026-01-04", "2026-01-05", "", ""]
    assert found.select("time!=''").nonzero()[0].tolist() == [3, 4]


@pytest.mark.parametrize(
    "where", ["site=north", "pid='Ann Lee' and time<2026-01-20", "camid='door 2'", "pid=''"]
)
def test_a_filtered_search_sees_only_what_the_filter_holds_for(
    where: str, gallery: Gallery
) -> None:
    query = people()[50:53]
    chosen = np.flatnonzero(gallery.select(where))
    assert 0 < len(chosen) < COUNT
    distances = np.linalg.norm(people()[:COUNT][chosen][None] - query[:, None], axis=2)
    wanted = chosen[np.argsort(distances, 1)[:, :5]]
    for opened in (gallery, SavedGallery.open(gallery.folder)):
        near, found = opened.search(query, 5, where)
        np.testing.assert_array_equal(found, wanted[:, : found.shape[1]])
        np.testing.assert_allclose(near, np.sort(distances, 1)[:, :5], rtol=1e-5)
    with pytest.raises(UserError, match="no image of .* has site=west: change the filter"):
        gallery.search(query, 5, "site=west")
    with pytest.raises(UserError, match="unknown column 'place'; available: pid, camid, path, si"):
        gallery.search(query, 5, "place=west")


def test_what_is_removed_is_not_on_the_disk(gallery: Gallery) -> None:
    before = content(gallery)
    secrets = [b"Ann Lee", b"000.jpg", people()[0].tobytes(), b"north"]
    assert all(any(secret in data for data in files(gallery)) for secret in secrets)
    left, gone = gallery.remove(f"pid={quoted('Ann Lee')}")
    assert gone == [f"/images/{i:03d}.jpg" for i in range(0, COUNT, 4)]
    assert content(left) == content(reopened(gallery)) == [r for r in before if r[1] != "Ann Lee"]
    assert not [s for s in secrets if any(s in data for data in files(gallery))]
    grown = left.add(**rows(40, 48))  # and it grows again
    assert content(reopened(grown)) == content(left) + content(grown)[-8:]
    assert content(gallery)[0] == before[0]  # what was opened before stays in use


def files(gallery: Gallery) -> list[bytes]:
    return [path.read_bytes() for path in gallery.folder.rglob("*") if path.is_file()]


def test_people_are_names_or_pids_and_one_alone_is_one(gallery: Gallery) -> None:
    gallery = gallery.add(**{**rows(40, 44), "people": ["1", "2", "12", "7"]})
    pids = dict(zip(gallery.names_of("pid"), gallery.numbers["pid"].tolist(), strict=True))

    def removed(**options: Any) -> list[int]:
        found = remove_images(gallery, dry_run=True, **options)
        return np.flatnonzero(found.rows).tolist()

    assert removed(people="12") == removed(people=["12"]) == removed(people=12) == [42]
    assert removed(people=["1", 2]) == [40, 41]
    # the pid of a verdict, as of somebody with a name
    assert removed(people=[pids["Ann Lee"]]) == removed(people="Ann Lee") == [*range(0, 40, 4)]
    assert removed(files="/images/003.jpg") == removed(files=[Path("/images/003.jpg")]) == [3]
    with pytest.raises(UserError, match="no image of person 3 or 99"):
        removed(people=[3, 99])
    with pytest.raises(UserError, match=r"people: 1.5 is of type float"):
        removed(people=[1.5])
    with pytest.raises(GalleryError, match="people='ab' is one text: give a list"):
        gallery.add(**{**rows(50, 52), "people": "ab"})


def test_removing_nobody_and_everybody(gallery: Gallery) -> None:
    before = files(gallery)
    same, gone = gallery.remove("pid=nobody")
    assert gone == [] and files(same) == before
    with pytest.raises(UserError, match="expected name, operator"):
        gallery.remove("")
    empty, gone = gallery.remove("path!=''")
    assert len(gone) == COUNT and not len(reopened(empty))
    assert len(empty.add(**rows(0, 3))) == 3


def test_images_inside_the_gallery_are_deleted_with_their_rows(gallery: Gallery) -> None:
    inside = gallery.folder / "images"
    inside.mkdir()
    more = rows(40, 44, str(inside))
    for path in [*more["paths"], inside / "other.jpg"]:
        Path(path).write_bytes(b"x")
    outside = gallery.folder.parent / "048.jpg"
    outside.write_bytes(b"x")
    gallery = gallery.add(**more).add(**rows(48, 49, str(outside.parent)))
    gallery.remove("pid='Ann Lee'")  # images 40 and 48
    assert sorted(path.name for path in inside.iterdir()) == [
        "041.jpg",
        "042.jpg",
        "043.jpg",
        "other.jpg",
    ]
    assert outside.exists() and not (gallery.folder / FORGOTTEN).exists()


@pytest.mark.parametrize(
    ("owner", "name", "call", "new"),
    [
        (gallery_writer, "_write_parts", 3, False),  # two of the new files are there
        (Card, "write", 1, False),
        (gallery_writer.RowWriter, "_clean", 2, True),  # the first call is at the beginning
        (gallery_writer.RowWriter, "_forget", 2, True),
    ],
)
def test_a_killed_removal_leaves_the_old_or_the_new_gallery(
    owner: Any, name: str, call: int, new: bool, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = gallery.folder / "images"
    inside.mkdir()
    more = rows(40, 44, str(inside))
    Path(more["paths"][0]).write_bytes(b"x")
    gallery = gallery.add(**more)
    before = content(gallery)
    child = os.fork()
    if not child:
        signal.alarm(30)
        die_at(call, owner, name, monkeypatch)
        gallery.remove("pid='Ann Lee'")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = [row for row in before if row[1] != "Ann Lee"]
    assert content(reopened(gallery)) == (left if new else before)
    after, _ = reopened(gallery).remove("pid='Ann Lee'")  # the same command again
    assert content(after) == left and not Path(more["paths"][0]).exists()
    assert not any(b"Ann Lee" in data for data in files(after))


def test_a_removal_on_a_full_disk_takes_no_space(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, original, calls = {*gallery.folder.iterdir()}, gallery_writer._write_parts, []

    def full(path: Path, parts: Any) -> int:
        calls.append(path)
        if len(calls) == 2:
            raise disk_full(path)
        return original(path, parts)

    monkeypatch.setattr(gallery_writer, "_write_parts", full)
    with pytest.raises(DiskFullError):
        gallery.remove("pid='Ann Lee'")
    assert calls[0].parent == gallery.folder and {*gallery.folder.iterdir()} == before
    assert len(reopened(gallery)) == COUNT


def die_at(call: int, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the process when a function is called for that time."""
    original, calls = getattr(owner, name), []

    def counted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    monkeypatch.setattr(owner, name, counted)


def test_a_reader_that_meets_a_removal_opens_the_new_gallery(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = Card.read, []

    def late(folder: Path) -> Card:
        card = read(folder)
        if not calls:
            calls.append(1)
            gallery.remove("pid='Ann Lee'")
        return card

    monkeypatch.setattr(Card, "read", staticmethod(late))
    assert len(SavedGallery.open(gallery.folder)) == COUNT - COUNT // 4


def test_a_removal_waits_for_no_other_writer(gallery: Gallery) -> None:
    with (
        locked(gallery.folder),
        pytest.raises(GalleryError, match="written to by another process"),
    ):
        gallery.remove("pid='Ann Lee'")


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_an_index_is_built_again_without_what_was_removed(index: Any, tmp_path: Path) -> None:
    with create(tmp_path / "g", Card(MODEL, 17, index=index)) as writer:
        writer.append(people()[:200], ids(0, 200))
    with extend(SavedGallery.open(tmp_path / "g"), MODEL) as writer:
        rows = np.zeros(200, bool)
        rows[:150] = True
        writer.remove(rows)
    gallery = SavedGallery.open(tmp_path / "g")
    assert gallery.saved_index() is not None and len(gallery.index) == 50
    _, found = gallery.search(people()[150:160], 1)
    assert found[:, 0].tolist() == list(range(10))
    assert len(list((tmp_path / "g").glob("index*"))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"pid": ["x"]}}, "metadata column 'pid': the name must be text"),
        ({"columns": {"": ["x"]}}, "metadata column ''"),
        ({"columns": {"site": []}}, "metadata column 'site': 0 values for 1 rows"),
        ({"columns": {"site": ["x" * (1 << 21)]}}, "more than 1,048,576 bytes of metadata"),
        ({"people": []}, "0 people for 1 paths"),
        ({"paths": ["/images/000.jpg"]}, "has already (/images/000.jpg)"),
        ({"embeddings": np.zeros((1, 17), np.float32)}, "only zeros, the first is row 0"),
        ({"embeddings": np.full((1, 17), np.nan, np.float32)}, "not finite, the first is row 0"),
        ({"embeddings": np.ones((1, 9), np.float32)}, "takes embeddings (n, 17)"),
    ],
)
def test_rows_that_cannot_be_added(change: dict[str, Any], message: str, gallery: Gallery) -> None:
    before = files(gallery)
    with pytest.raises(UserError, match=re.escape(message)):
        gallery.add(**{**rows(60, 61), **change})
    assert files(gallery) == before


def test_damaged_metadata_is_reported(gallery: Gallery) -> None:
    path = gallery.folder / gallery.card.file("columns.jsonl")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"north", b"south", 1))
    with pytest.raises(GalleryError, match="has changed since it was written"):
        reopened(gallery)
