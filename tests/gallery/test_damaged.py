"""A saved gallery is a file from elsewhere: what cannot be is refused before it is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.writer import extend
from reid_lab.gallery_format.card import GalleryError
from reid_lab.gallery_format.rows import ID
from reid_lab.types import MAX_SIDE
from tests.gallery.test_index import people
from tests.gallery.test_store import DATA, DIM, MODEL, ids, made

COUNT = 64
Do = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery with an index, made once."""
    return made(tmp_path_factory.mktemp("whole") / "g", 0, COUNT, index="hnsw").folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "g"))


def card(folder: Path, **changed: Any) -> None:
    path = folder / "gallery.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def older(folder: Path) -> None:
    """As a version before the checksums wrote it."""
    content = json.loads((folder / "gallery.json").read_text())
    indexed = content.pop("indexed")
    for later in ("crc32", "generation", "columns", "columns_bytes"):
        del content[later]
    content["format"] = 1
    (folder / f"index.{indexed}.faiss").rename(folder / "index.faiss")
    (folder / "gallery.json").write_text(json.dumps(content))


WRONG: list[tuple[str, list[Any]]] = [
    ("metric", ["foo", 1, None, ["cosine"]]),
    ("count", ["30", -1, 2**63, 1.5, True, None, COUNT + 1, 10**12]),
    ("dim", [0, -1, "17", 2**40, 18]),
    ("dtype", ["object", "float64", 4]),
    ("index", ["foo", 0]),
    ("image", [[MAX_SIDE + 1, 32], [1_000_000, 1_000_000], [-1, 32], [64], [64, 32, 3], "x", 5]),
    ("fingerprint", ["", 5, "a" * 1000]),
    ("exit", [3, "x" * 1000]),
    ("pattern", [5, "x" * 100_000]),
    ("trained", [-1, COUNT + 1]),
    ("indexed", [-1, COUNT + 1]),
    ("crc32", [5, {"embeddings.bin": -1}, {"embeddings.bin": "1"}, {"ids.bin": 1}]),
    ("format", [3, 0, -1, "1", 1.0, None]),
]


@pytest.mark.parametrize(("key", "value"), [(key, v) for key, values in WRONG for v in values])
def test_a_wrong_field_is_refused(key: str, value: Any, folder: Path) -> None:
    card(folder, **{key: value})
    with pytest.raises(GalleryError, match="again"):
        SavedGallery.open(folder)


@pytest.mark.parametrize("key", ["metric", "count", "image", "exit", "fingerprint"])
def test_no_field_is_left_to_a_default(key: str, folder: Path) -> None:
    content = json.loads((folder / "gallery.json").read_text())
    del content[key]
    (folder / "gallery.json").write_text(json.dumps(content))
    with pytest.raises(GalleryError, match=f"{key} is missing"):
        SavedGallery.open(folder)


def twice(text: str) -> str:
    return text.replace('"dim"', '"count": 1, "dim"')


TEXTS: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "null": lambda text: "null",
    "cut off": lambda text: text[:80],
    "nested": lambda text: "[" * 100_000,
    "nested objects": lambda text: '{"a":' * 100_000,
    "a key twice": twice,
    "NaN": lambda text: text.replace(f'"count": {COUNT}', '"count": NaN'),
    "infinity": lambda text: text.replace(f'"count": {COUNT}', '"count": -Infinity'),
    "1e999": lambda text: text.replace(f'"count": {COUNT}', '"count": 1e999'),
    "many digits": lambda text: text.replace(f'"count": {COUNT}', '"count": ' + "9" * 5000),
    "binary": lambda text: np.random.default_rng(0).bytes(500),
    "UTF-16": lambda text: text.encode("utf-16"),
    "large": lambda text: text + " " * (1 << 24),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_card_that_is_no_json_object_is_refused(name: str, folder: Path) -> None:
    path = folder / "gallery.json"
    text = TEXTS[name](path.read_text())
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GalleryError, match=r"gallery\.json (cannot be read|holds a|has 16,7)"):
        SavedGallery.open(folder)


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def link(path: Path) -> None:
    path.symlink_to(path.rename(path.parents[1] / "elsewhere"))


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [noise, bit, cut, link, directory, Path.unlink])
@pytest.mark.parametrize("name", DATA)
def test_damaged_data_is_refused(name: str, damage: Do, folder: Path) -> None:
    damage(folder / name)
    for use in (lambda g: g.checked, lambda g: extend(g, MODEL).__enter__()):
        with pytest.raises(GalleryError, match=f"{name}.*(copy|put the file)"):
            use(SavedGallery.open(folder))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("damage", [noise, bit, cut, link])
def test_a_damaged_index_is_refused(damage: Do, folder: Path) -> None:
    damage(folder / f"index.{COUNT}.faiss")
    with pytest.raises(UserError, match="remove it, and it is built again|is a link"):
        SavedGallery.open(folder).search(people()[:2], 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 0, 1e-30])
def test_rows_that_cannot_be_compared_are_refused_without_a_checksum(
    value: float, folder: Path
) -> None:
    older(folder)
    rows = np.fromfile(folder / "embeddings.bin", "<f4").reshape(-1, DIM)
    rows[7] = value
    rows.tofile(folder / "embeddings.bin")
    with pytest.raises(GalleryError, match="row 7 is not finite, or of a length"):
        _ = SavedGallery.open(folder).checked


@pytest.mark.parametrize("end", [2**62, -5, 3])
def test_ids_that_cannot_be_are_refused_without_a_checksum(end: int, folder: Path) -> None:
    older(folder)
    numbers = np.fromfile(folder / "ids.bin", ID)
    numbers["end"][-1] = end
    numbers.tofile(folder / "ids.bin")
    with pytest.raises(GalleryError, match="is damaged|is incomplete"):
        SavedGallery.open(folder)


def test_an_index_of_other_rows_is_refused_without_a_checksum(folder: Path, tmp_path: Path) -> None:
    older(folder)
    other = made(tmp_path / "other", 0, COUNT, index="sq8").folder
    shutil.copy(other / f"index.{COUNT}.faiss", folder / "index.faiss")
    with pytest.raises(UserError, match="IndexScalarQuantizer instead of IndexHNSWFlat"):
        SavedGallery.open(folder).search(people()[:2], 3)


def test_a_gallery_of_an_older_version_is_searched_and_grows(whole: Path, folder: Path) -> None:
    new = SavedGallery.open(whole)
    older(folder)
    old = SavedGallery.open(folder)
    assert not old.card.crc32 and old.saved_index() is not None
    for a, b in zip(old.search(people()[:5], 3), new.search(people()[:5], 3), strict=True):
        np.testing.assert_array_equal(a, b)
    with extend(old, MODEL) as more:
        more.append(people()[COUNT : COUNT + 6], ids(COUNT, COUNT + 6))
    grown = SavedGallery.open(folder)
    assert set(grown.card.crc32) == {*DATA, "index.faiss"}
    assert [path.name for path in folder.glob("index*")] == [f"index.{COUNT + 6}.faiss"]
    assert len(grown.checked) == COUNT + 6 and len(grown.index) == COUNT + 6


def test_a_link_in_place_of_the_lock_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "dear").write_text("dear")
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").symlink_to(tmp_path / "dear")
    with pytest.raises(UserError, match="is a link"), extend(SavedGallery.open(folder), MODEL):
        pass
    assert (tmp_path / "dear").read_text() == "dear"


def test_a_gallery_that_another_process_changed_is_not_written(folder: Path) -> None:
    with extend(SavedGallery.open(folder), MODEL) as more:
        replace(SavedGallery.open(folder).card, exit="other").write(folder)
        with pytest.raises(GalleryError, match="was changed by another process"):
            more.append(people()[COUNT : COUNT + 6], ids(COUNT, COUNT + 6))


@pytest.mark.parametrize("index", ["flat", "hnsw"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 0])
def test_a_query_that_cannot_be_compared_is_refused(
    index: Any, value: float, tmp_path: Path
) -> None:
    query = people()[:3].copy()
    query[1] = value
    with pytest.raises(UserError, match="query 1 is not finite"):
        made(tmp_path / "g", 0, 20, index=index).search(query, 3)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3"])
def test_k_is_a_whole_number_from_one(k: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a whole number from 1 is expected"):
        made(tmp_path / "g", 0, 20).search(people()[:1], k)
