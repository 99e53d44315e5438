"""A saved gallery: whole whatever happens, appended to, refused what does not belong."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import faiss  # isort: skip

from reid_lab.errors import UserError
from reid_lab.export.checkpoint import check_target
from reid_lab.files.atomic import DiskFullError
from reid_lab.gallery.index import build
from reid_lab.gallery.store import UNKNOWN, SavedGallery
from reid_lab.gallery.writer import create, extend
from reid_lab.gallery_format import writer as gallery_writer
from reid_lab.gallery_format.card import Card, GalleryError
from reid_lab.retrieval import Ids
from reid_lab.runtime.manifest import ExportError
from tests.gallery.test_index import people

DIM = 17
MODEL = "a" * 64
CARD = Card(MODEL, DIM, "fusion", (64, 32))
DATA = ("embeddings.bin", "ids.bin", "paths.bin")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def ids(first: int, last: int) -> Ids:
    numbers = torch.arange(first, last)
    paths = [f"/images/{i:04d}.jpg" for i in range(first, last)]
    return Ids(numbers // 4, numbers % 4, np.array(paths, dtype=object))


def made(folder: Path, first: int = 0, last: int = 100, **card: Any) -> SavedGallery:
    with create(folder, replace(CARD, **card)) as gallery:
        gallery.append(people()[first:last], ids(first, last))
    return SavedGallery.open(folder)


def grown(gallery: SavedGallery, first: int, last: int) -> SavedGallery:
    with extend(gallery, MODEL) as more:
        more.append(people()[first:last], ids(first, last))
    return SavedGallery.open(gallery.folder)


def content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in DATA]


def is_of(gallery: SavedGallery, count: int) -> bool:
    """Whether it holds the first `count` people, and nothing else."""
    wanted = ids(0, count)
    return (
        len(gallery) == count
        and np.array_equal(gallery.embeddings, people()[:count])
        and torch.equal(gallery.pids, wanted.pids)
        and torch.equal(gallery.camids, wanted.camids)
        and gallery.paths() == wanted.paths.tolist()
    )


def test_what_was_put_in_is_there(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g")
    assert is_of(gallery, 100)
    assert gallery.path(0) == "/images/0000.jpg" and gallery.path(99) == "/images/0099.jpg"
    assert replace(gallery.card, crc32={}) == replace(CARD, count=100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g"]


def test_any_path_and_unknown_people(tmp_path: Path) -> None:
    names = ["Zoë 東京.jpg", "two\nlines.jpg", os.fsdecode(b"\xff\xfe.jpg")]
    unknown = torch.full((3,), UNKNOWN)
    with create(tmp_path / "g", CARD) as gallery:
        gallery.append(people()[:3], Ids(unknown, unknown, np.array(names, dtype=object)))
    again = SavedGallery.open(tmp_path / "g")
    assert again.paths() == names == [again.path(row) for row in range(3)]
    assert again.ids().pids.tolist() == [UNKNOWN] * 3


def test_appended_equals_built_at_once(tmp_path: Path) -> None:
    gallery = made(tmp_path / "a", 0, 40)
    inodes = [(tmp_path / "a" / name).stat().st_ino for name in DATA]
    for first, last in ((40, 41), (41, 90), (90, 100)):
        gallery = grown(gallery, first, last)
    assert is_of(gallery, 100)
    assert content(tmp_path / "a") == content(made(tmp_path / "b").folder)
    assert inodes == [(tmp_path / "a" / name).stat().st_ino for name in DATA]  # not rewritten


def test_opening_reads_no_embeddings(tmp_path: Path) -> None:
    count, dim = 1_000_000, 2048
    made(tmp_path / "g")
    for name, size in zip(DATA, (4 * dim, 24, 0), strict=True):
        os.truncate(tmp_path / "g" / name, 0)
        os.truncate(tmp_path / "g" / name, count * size)  # 8 GB of a hole
    replace(CARD, count=count, dim=dim).write(tmp_path / "g")  # without a CRC-32 of holes
    before = resident()
    gallery = SavedGallery.open(tmp_path / "g")
    assert isinstance(gallery.embeddings, np.memmap)
    assert gallery.embeddings.shape == (count, dim)
    assert not gallery.embeddings[count // 2].any()
    assert resident() - before < 50e6


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("step", range(4))
def test_an_append_that_fails_changes_nothing(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery, calls = made(tmp_path / "g", 0, 50), 0

    def full(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > step:
            raise OSError(28, "No space left on device")
        put(*_)

    put = gallery_writer.put
    with monkeypatch.context() as patch:
        patch.setattr(gallery_writer, "put", full)
        if step == 3:
            patch.setattr(Card, "write", full)
        with pytest.raises(OSError, match="No space"):
            grown(gallery, 50, 80)
    assert is_of(SavedGallery.open(tmp_path / "g"), 50)
    assert is_of(grown(gallery, 50, 100), 100)
    assert content(tmp_path / "g") == content(made(tmp_path / "b").folder)


def test_a_disk_that_is_full_when_a_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few bytes wait in Python's buffer: flushing fails, and closing then fails again."""

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "rows.bin"
    path.write_bytes(b"old rows")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: io.BufferedRandom(Full(path, "r+b")))
        with pytest.raises(DiskFullError, match="no space left to write .*gallery.json"):
            gallery_writer.put(path, 8, b"new")
    assert path.read_bytes() == b"old rows"


def test_a_killed_append_leaves_the_old_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = made(tmp_path / "g", 0, 50)
    child = os.fork()
    if not child:  # it writes all its rows and dies before they are counted
        signal.alarm(30)
        monkeypatch.setattr(Card, "write", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        grown(gallery, 50, 80)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "g" / "embeddings.bin").stat().st_size == 80 * DIM * 4
    assert is_of(SavedGallery.open(tmp_path / "g"), 50)
    assert is_of(grown(gallery, 50, 60), 60)  # fewer than were left behind, and not locked
    assert (tmp_path / "g" / "embeddings.bin").stat().st_size == 60 * DIM * 4


def test_a_reader_keeps_what_it_has_opened(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", 0, 50)
    grown(gallery, 50, 100)
    assert is_of(gallery, 50)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", 0, 50)
    with extend(gallery, MODEL) as first:
        with pytest.raises(GalleryError, match="written to by another process"):
            grown(gallery, 50, 60)
        first.append(people()[50:100], ids(50, 100))
    assert is_of(SavedGallery.open(tmp_path / "g"), 100)


def test_two_builders_are_refused(tmp_path: Path) -> None:
    with create(tmp_path / "g", CARD) as first:
        with pytest.raises(UserError, match="g is being written by another process"):
            made(tmp_path / "g")
        first.append(people()[:9], ids(0, 9))
    assert is_of(SavedGallery.open(tmp_path / "g"), 9)


def test_a_build_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), create(tmp_path / "g", CARD) as gallery:
        gallery.append(people()[:9], ids(0, 9))
        assert not (tmp_path / "g").exists()
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with pytest.raises(GalleryError, match="there are no images"), create(tmp_path / "g", CARD):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / ".g.writing" / "new").mkdir(parents=True)  # as a killed build leaves it
    (tmp_path / ".g.writing" / "new" / "embeddings.bin").write_bytes(b"half")
    assert is_of(made(tmp_path / "g"), 100)


def test_nothing_is_built_inside_of_a_gallery_or_an_export(tmp_path: Path) -> None:
    """Overwriting the outer one would remove it."""
    made(tmp_path / "g")
    (tmp_path / "link").symlink_to("g")
    for name in ("g/inside", "g/a/b", "link/inside"):
        with pytest.raises(GalleryError, match="inside of the gallery .*g, .*choose a folder besi"):
            made(tmp_path / name)
        with pytest.raises(ExportError, match="inside of the gallery .*g, .*choose a folder besi"):
            check_target(tmp_path / name, overwrite=True)
    assert is_of(SavedGallery.open(tmp_path / "g"), 100)
    assert not (tmp_path / "g" / "inside").exists() and not (tmp_path / "g" / "a").exists()
    (tmp_path / "e" / "stages").mkdir(parents=True)
    made(tmp_path / "e" / "before")
    (tmp_path / "e" / "manifest.json").write_text("{}")
    with pytest.raises(GalleryError, match="inside of the export .*e, "):
        made(tmp_path / "e" / "g")
    with pytest.raises(ExportError, match="inside of the export .*e, "):
        check_target(tmp_path / "e" / "f", overwrite=False)
    with create(tmp_path / "g", CARD, overwrite=True) as gallery:
        gallery.append(people()[:5], ids(0, 5))
    assert is_of(SavedGallery.open(tmp_path / "g"), 5)


def test_overwriting_is_asked_for(tmp_path: Path) -> None:
    made(tmp_path / "g", 0, 50)
    with pytest.raises(GalleryError, match="exists already: add to it, overwrite it"):
        made(tmp_path / "g")
    with pytest.raises(RuntimeError), create(tmp_path / "g", CARD, overwrite=True):
        raise RuntimeError
    assert is_of(SavedGallery.open(tmp_path / "g"), 50)
    with create(tmp_path / "g", CARD, overwrite=True) as gallery:
        gallery.append(people()[:70], ids(0, 70))
    assert is_of(SavedGallery.open(tmp_path / "g"), 70)
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_what_is_no_gallery_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.jpg").write_bytes(b"")
    with (
        pytest.raises(GalleryError, match="not a saved gallery, it is not overwritten"),
        create(tmp_path / "photos", CARD, overwrite=True),
    ):
        pass
    assert (tmp_path / "photos" / "dear.jpg").exists()


def spoiled(row: int, value: float) -> np.ndarray:
    rows = people()[100:110].copy()
    rows[row] = value
    return rows


BAD = {
    "not finite, the first is row 3 (/images/0103.jpg)": (spoiled(3, np.nan), ids(100, 110)),
    "only zeros, the first is row 4 (/images/0104.jpg)": (spoiled(4, 0), ids(100, 110)),
    "takes embeddings (n, 17) with n paths": (people()[:10, :5], ids(100, 110)),
    "these are (10, 17) with 9": (people()[:10], ids(100, 109)),
    "row 0 is an image that": (people()[:10], ids(98, 108)),
    "float16: build the gallery in float32": (spoiled(2, 1e6), ids(100, 110)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_rows_are_refused(message: str, tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", 0, 99, dtype="float16")
    before = content(tmp_path / "g")
    with pytest.raises(GalleryError) as error, extend(gallery, MODEL) as more:
        more.append(*BAD[message])
    assert message in str(error.value)
    assert content(tmp_path / "g") == before
    assert len(SavedGallery.open(tmp_path / "g")) == 99


def test_an_image_that_comes_twice_is_refused(tmp_path: Path) -> None:
    twice = ids(0, 4)
    twice.paths[3] = twice.paths[1]
    with (
        pytest.raises(
            GalleryError, match=r"row 3 is an image that is given twice \(/images/0001.jpg\)"
        ),
        create(tmp_path / "g", CARD) as gallery,
    ):
        gallery.append(people()[:4], twice)


def test_another_model_is_refused(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g")
    with (
        pytest.raises(GalleryError, match="the model aaaaaaaaaaaa, this one is bbbbbbbbbbbb"),
        extend(gallery, "b" * 64),
    ):
        pass
    with pytest.raises(GalleryError, match="exit=fusion.*exit=stage1"):
        gallery.check_same_space(made(tmp_path / "other", exit="stage1"))
    gallery.check_same_space(gallery)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_search_is_exact(dtype: str, metric: Any, tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", dtype=dtype, metric=metric)
    assert gallery.embeddings.dtype == dtype
    size = (tmp_path / "g" / "embeddings.bin").stat().st_size
    assert size == 100 * DIM * (4 if dtype == "float32" else 2)
    distances, rows = gallery.search(people()[100:130], 5)
    wanted, order = build("flat", people()[:100], metric).search(people()[100:130], 5)
    np.testing.assert_allclose(distances, wanted, rtol=0.01, atol=1e-3)
    assert (rows == order).mean() > (0.9 if dtype == "float16" else 0.999)


@pytest.mark.parametrize("name", ["ivf", "hnsw", "sq8"])
def test_the_index_grows_with_the_gallery(name: Any, tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", 0, 300, index=name)
    assert gallery.card.trained == 300
    gallery = grown(gallery, 300, 500)
    saved = gallery.saved_index()
    assert saved is not None and len(saved) == 500
    assert gallery.card.trained == 300  # it has learned enough
    gallery = grown(gallery, 500, 700)
    assert gallery.card.trained == 700  # it has doubled
    hits = (gallery.search(people()[:700], 3)[1] == np.arange(700)[:, None]).any(1)
    assert hits.mean() > 0.95


def test_rows_that_missed_the_index_are_found(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", 0, 300, index="ivf")
    with pytest.raises(KeyboardInterrupt), extend(gallery, MODEL) as more:
        more.append(people()[300:400], ids(300, 400))
        raise KeyboardInterrupt
    gallery = SavedGallery.open(tmp_path / "g")
    assert is_of(gallery, 400)
    saved = gallery.saved_index()
    assert saved is not None and len(saved) == 300
    assert (gallery.search(people()[300:400], 1)[1][:, 0] == np.arange(300, 400)).mean() > 0.95
    with extend(gallery, MODEL):
        pass  # nothing new, but what was missed
    mended = SavedGallery.open(tmp_path / "g").saved_index()
    assert mended is not None and len(mended) == 400
    (tmp_path / "g" / "index.400.faiss").unlink()
    assert len(SavedGallery.open(tmp_path / "g").index) == 400  # built again


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    folder = made(tmp_path / "g").folder
    card = json.loads((folder / "gallery.json").read_text())

    def refused(message: str, **changed: Any) -> None:
        (folder / "gallery.json").write_text(json.dumps({**card, **changed}))
        with pytest.raises(GalleryError, match=message):
            SavedGallery.open(folder)

    refused("holds 6,800 bytes, gallery.json counts 6,868: the copy is incomplete", count=101)
    refused("format 3, this version reads up to 2", format=3)
    refused("metric='hamming': Input should be 'euclidean' or 'cosine'", metric="hamming")
    (folder / "gallery.json").write_text("{")
    with pytest.raises(GalleryError, match="cannot be read"):
        SavedGallery.open(folder)
    with pytest.raises(GalleryError, match="does not exist: build one first"):
        SavedGallery.open(tmp_path / "else" / "nowhere")
    named = f"not a saved gallery, it does not exist: give one of {folder.name} of {folder.parent}"
    with pytest.raises(GalleryError, match=re.escape(named)):
        SavedGallery.open(folder.parent / "nowhere")
    with pytest.raises(GalleryError, match="it has no gallery.json"):
        SavedGallery.open(tmp_path)
    (folder / "gallery.json").write_text(json.dumps({**card, "index": "ivf"}))
    (folder / "index.faiss").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is not an index of this gallery .*: remove it"):
        SavedGallery.open(folder).search(people()[:1], 1)
