"""Vector stores: a folder and Milvus Lite give the same answers.

REID_LAB_MILVUS_URI=http://127.0.0.1:19530 runs them with a Milvus server.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.gallery import milvus
from reid_lab.gallery.milvus import MilvusStore, patiently
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vector_index import StoreIndex
from reid_lab.gallery.vectors import FolderStore, VectorStore, load_gallery, prune
from reid_lab.gallery.writer import create
from reid_lab.gallery_format.card import Card, GalleryError
from reid_lab.gallery_format.conditions import ConditionError
from reid_lab.gallery_format.embedding_files import EmbeddedImages, write_embeddings
from reid_lab.openset.thresholds import OWN, AcceptThreshold, AcceptThresholds
from tests.commands import gallery as main

pytest.importorskip("milvus_lite")
from milvus_lite.server_manager import server_manager_instance

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore")]  # of pymilvus's imports

DIM, COUNT = 16, 300
COLLECTIONS = ("people", "whole")
CARD = Card("f" * 64, DIM, exit="fusion", image=(64, 32))
ROWS = np.random.default_rng(0).normal(size=(COUNT, DIM)).astype(np.float32)
PATHS = [f"/images/{row:04}.jpg" for row in range(COUNT)]
PEOPLE = [f'Ann "{row % 30}"' if row % 2 else str(row % 30) for row in range(COUNT)]
CAMERAS = [str(row % 3) for row in range(COUNT)]
SITES = {
    "the site": ["north" if row % 4 else "" for row in range(COUNT)],
    "time": [
        f"2026-01-{1 + row % 28:02}T0{row % 10}:30" if row % 5 else "" for row in range(COUNT)
    ],
    "height": [["1.80", "-3", "tall", "", "12", "1.8", "1e1"][row % 7] for row in range(COUNT)],
}


def folder(path: Path, **card: Any) -> SavedGallery:
    with create(path, replace(CARD, **card)) as writer:
        writer.append_rows(*_numbered(slice(0, 1)))
    FolderStore(path).add(ROWS[1:], PATHS[1:], PEOPLE[1:], CAMERAS[1:], _sites(slice(1, None)))
    return SavedGallery.open(path)


def _sites(part: slice) -> dict[str, list[str]]:
    return {name: values[part] for name, values in SITES.items()}


def _numbered(part: slice) -> tuple[Any, ...]:
    zeros = np.zeros(len(ROWS[part]), np.int64)
    return ROWS[part], zeros, zeros, PATHS[part], {}, _sites(part)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of an empty Milvus: a file, or the named server without our collections."""
    uri = os.environ.get("REID_LAB_MILVUS_URI", "")
    if not uri:
        yield str(tmp_path / "people.db")
        return
    server = MilvusStore.connect(uri)
    there = {*COLLECTIONS} & {*server.list_collections()}
    assert not there, f"the tests would drop {', '.join(there)} of {uri}: name another server"
    yield uri
    for name in COLLECTIONS:
        server.drop_collection(name)
    server.close()


@pytest.fixture
def client(address: str) -> Any:
    made = MilvusStore.connect(address, create=True)
    yield made
    made.close()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_folder_and_milvus_give_the_same(tmp_path: Path, client: Any, metric: str) -> None:
    gallery = folder(tmp_path / "g", metric=metric)
    store = MilvusStore.create(client, "people", gallery.card)
    seen: list[int] = []
    assert load_gallery(gallery, store, 128, seen.append) == COUNT and seen == [128, 128, 44]
    stores: tuple[VectorStore, ...] = (FolderStore(tmp_path / "g"), store)
    query = np.random.default_rng(1).normal(size=(7, DIM)).astype(np.float32)
    for where in (
        "",
        "camid!=1",
        "camid=1 and 'the site'=north",
        "pid='Ann \"7\"'",
        "'the site'=''",
        "'the site'=north and time>=2026-01-15",
        "time<2026-01-03T05:30+02:00",
        "time<=2026-01-02T01:30 and time>2026-01-01",
        "time=2026-01-02T02:30+01:00",
        "height=1.8",
        "height!=1.8",
        "height<2",
        "height>=1.8 and height<12.5",
        "height>m",
        "'the site'<=north",
        "camid>0 and pid<7",
        "pid>='Ann'",
        "path<'/images/0100.jpg'",
    ):
        wanted, found = (one.search(query, 5, where) for one in stores)
        assert found.paths == wanted.paths
        np.testing.assert_allclose(found.distances, wanted.distances, atol=1e-4)
    for where in ("'the site'>3", "path<2026-01-01"):
        for one in stores:
            with pytest.raises(ConditionError, match="and no value of"):
                one.search(query, 5, where)
    for one in stores:
        with pytest.raises(GalleryError, match="no image of .* has time>2027-01-01: change"):
            one.search(query, 5, "time>2027-01-01")
    removed = [one.remove("height>=1.8 and camid=2") for one in stores]
    assert removed[0] == removed[1] > 0
    assert [len(one) for one in stores] == [COUNT - removed[0]] * 2
    wanted, found = (one.search(query, 5) for one in stores)
    assert found.paths == wanted.paths


def test_a_killed_load_goes_on(tmp_path: Path, client: Any, address: str) -> None:
    gallery = folder(tmp_path / "g")
    store = MilvusStore.create(client, "people", gallery.card)

    def killed(images: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_gallery(gallery, store, 100, killed)
    client.close()
    reopened = MilvusStore.connect(address)
    again = MilvusStore.open(reopened, "people")
    assert again.card == replace(gallery.card, count=0, crc32={}, columns_bytes=0)
    assert len(again) == 100 and again.known(PATHS[98:102]) == {*PATHS[98:100]}
    assert load_gallery(gallery, again, 64) == COUNT - 100
    assert len(again) == COUNT and load_gallery(gallery, again, 64) == 0
    reopened.close()


LOAD = """
import sys
from reid_lab.openset.thresholds import (AcceptThreshold, AcceptThresholds, OWN)
from reid_lab.gallery import milvus
from reid_lab.gallery.milvus import MilvusStore
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.vectors import load_gallery

gallery = SavedGallery.open(sys.argv[1])
client = MilvusStore.connect(sys.argv[2], create=True)
if client.has_collection("people"):
    store = MilvusStore.open(client, "people")
else:
    store = MilvusStore.create(client, "people", gallery.card)
load_gallery(gallery, store, 7, lambda images: print(len(store), flush=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_load_ended_by_sigkill_goes_on(tmp_path: Path, address: str) -> None:
    gallery = folder(tmp_path / "g")
    kept = 0
    for batches in (3, 30):
        words = [sys.executable, "-W", "ignore", "-c", LOAD, str(gallery.folder), address]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(batches):
                kept = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)  # while the next batch is sent
        assert process.returncode == -signal.SIGKILL
        opened = MilvusStore.connect(address)
        there = len(MilvusStore.open(opened, "people"))
        opened.close()
        server_manager_instance.release_server(address)  # a file's, for the next process
        assert kept <= there < COUNT  # of what was acknowledged nothing is lost
    assert main(["load", str(gallery.folder), "--store", "milvus", "--uri", address]) == 0
    reopened = MilvusStore.connect(address)
    again = MilvusStore.open(reopened, "people")
    whole = MilvusStore.create(reopened, "whole", gallery.card)
    assert load_gallery(gallery, whole) == COUNT == len(again)
    query = np.random.default_rng(2).normal(size=(9, DIM)).astype(np.float32)
    for where in ("", "camid!=1 and 'the site'=north"):
        wanted, found = (one.search(query, 8, where) for one in (whole, again))
        assert found.paths == wanted.paths
        np.testing.assert_array_equal(found.distances, wanted.distances)
    reopened.close()


@pytest.mark.parametrize("key, value", [("fingerprint", "e" * 64), ("exit", "stage1")])
def test_a_store_of_another_model_is_refused(
    tmp_path: Path, client: Any, key: str, value: str
) -> None:
    gallery = folder(tmp_path / "g")
    MilvusStore.create(client, "people", replace(gallery.card, **{key: value}))
    store = MilvusStore.open(client, "people")
    with pytest.raises(GalleryError, match=f"the store has {key}={value[:12]}"):
        load_gallery(gallery, store)
    assert len(store) == 0


def test_what_milvus_cannot_is_told(tmp_path: Path, client: Any) -> None:
    store = MilvusStore.create(client, "people", replace(CARD, columns=("site",)))
    with pytest.raises(GalleryError, match="already"):
        MilvusStore.create(client, "people", CARD)
    with pytest.raises(GalleryError, match="no collection 'other' in Milvus; there are: people"):
        MilvusStore.open(client, "other")
    with pytest.raises(ConditionError, match="available: pid, camid, path, site"):
        store.remove("town=x")
    for rows in (ROWS[:1, :3], ROWS[:1] * np.nan, ROWS[:1] * 0):
        with pytest.raises(GalleryError, match=r"takes \(n, 16\)"):
            store.add(rows, ["a"], [""], [""])
    with pytest.raises(GalleryError, match="no column 'time'; available: site"):
        store.add(ROWS[:1], ["a"], [""], [""], {"time": ["1"]})
    with pytest.raises(GalleryError, match="more than 4096 bytes"):
        store.add(ROWS[:1], ["a" * 5000], [""], [""])


def test_a_collection_of_an_earlier_version(
    tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = folder(tmp_path / "g")
    with monkeypatch.context() as before:
        before.setattr(milvus, "_texts", lambda card: [])
        MilvusStore.create(client, "people", gallery.card)
    store = MilvusStore.open(client, "people")
    assert load_gallery(gallery, store) == COUNT
    wanted, found = (
        one.search(ROWS[:2], 3, "camid!=1") for one in (FolderStore(gallery.folder), store)
    )
    assert found.paths == wanted.paths
    with pytest.raises(ConditionError, match="earlier version, which knew = and != alone"):
        store.search(ROWS[:1], 1, "camid>=1")


def test_a_busy_server_is_asked_again() -> None:
    answers = iter([RuntimeError("rate limit exceeded"), RuntimeError("quota"), 7])
    waits: list[float] = []

    def work() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(work, waits.append) == 7 and waits == [0.5, 1.0]

    def broken(error: str) -> Callable[[], Any]:
        def fail() -> Any:
            raise RuntimeError(error)

        return fail

    for error, pauses in (("wrong field", 0), ("rate limit", 7)):
        waits.clear()
        with pytest.raises(UserError, match=f"Milvus: {error}"):
            patiently(broken(error), waits.append)
        assert len(waits) == pauses


def test_a_server_that_stops_is_told() -> None:
    """As pymilvus says it of a server that was killed during a load."""

    def gone(*given: Any, **more: Any) -> Any:
        raise RuntimeError("Fail connecting to server on 127.0.0.1:19530")

    store = MilvusStore(SimpleNamespace(get=gone, query=gone, delete=gone), "people", CARD)
    store._keyed = True
    asked: list[Callable[[], object]] = [
        lambda: len(store),
        lambda: store.known(["a"]),
        lambda: store.remove("pid=1"),
        lambda: store.discard(["a"]),
    ]
    for ask in asked:
        with pytest.raises(UserError, match="Milvus: Fail connecting to server"):
            ask()


def test_the_commands(
    tmp_path: Path,
    address: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Load, search with the folder's and with Milvus's answers, and the price of both."""
    near = AcceptThreshold(0.1, 0.5, 1.0)
    fitted = AcceptThresholds("searches", OWN, 30, COUNT, COUNT, (near,))
    folder(tmp_path / "g", accept_thresholds=(fitted,))
    exits = {"fusion": ROWS[:3] + 0.01}
    paths = np.array(["a.jpg", "b.jpg", "c.jpg"])
    write_embeddings(tmp_path / "q.npz", EmbeddedImages(CARD.fingerprint, exits, paths))
    to = ["--store", "milvus", "--uri", address]
    assert main(["load", str(tmp_path / "g"), *to, "--batch-size", "128"]) == 0
    assert "300 images added, 300 in people" in " ".join(capsys.readouterr().out.split())
    answers = []
    for more in ([], to):
        out = tmp_path / f"{len(more)}.csv"
        words = ["search", str(tmp_path / "g"), "--image", str(tmp_path / "q.npz"), "--top", "4"]
        assert main([*words, "--where", "camid!=1", "--out", str(out), *more]) == 0
        answers.append(out.read_text())
    assert_same_table(*answers)
    assert answers[0].count("/images/") == 12
    capsys.readouterr()
    judged = []
    for more in ([], to):
        rate = ["--false-accept-rate", "0.1", "--where", "time<=2026-01-02T05:00"]
        out = tmp_path / f"judged_{len(more)}.csv"
        with monkeypatch.context() as folderless:
            if more:
                folderless.delattr(SavedGallery, "search")
            words = ["search", str(tmp_path / "g"), "--image", str(tmp_path / "q.npz"), *rate]
            assert main([*words, "--out", str(out), *more]) == 0
        judged.append(out.read_text())
    assert_same_table(*judged)
    assert all(f",{word}," in judged[0] for word in ("known", "unknown"))
    assert main(["plan", str(tmp_path / "g"), "--store", "milvus", "--most", "20"]) == 0
    assert "milvus" in capsys.readouterr().out
    FolderStore(tmp_path / "g").remove("camid=0")
    words = ["search", str(tmp_path / "g"), "--image", str(tmp_path / "q.npz")]
    assert main([*words, *to]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "the store has 300 images" in error
    again = (
        f"run reid-lab gallery load {tmp_path / 'g'} --prune --uri {address} --collection people"
    )
    assert error.endswith(again)
    assert main(again.split()[3:]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "0 images added, 100 removed, 200 in people" in told
    assert main([*words, *to]) == 0


def assert_same_table(wanted: str, found: str) -> None:
    """Equal texts, and distances equal up to rounding: a server adds in another order."""
    one, other = (list(csv.DictReader(text.splitlines())) for text in (wanted, found))
    distances = [[float(row.pop("distance")) for row in rows] for rows in (one, other)]
    assert one == other
    np.testing.assert_allclose(*distances, rtol=1e-5)


def test_a_replaced_collection_has_nothing_of_removed_people(tmp_path: Path) -> None:
    """Milvus hides rows that are removed from it, and may keep them in its files."""
    gallery, file = folder(tmp_path / "g"), tmp_path / "people.db"
    vector = ROWS[5].tobytes()

    def kept() -> list[str]:
        files = (path for path in file.rglob("*") if path.is_file())
        return [path.name for path in files if vector in path.read_bytes()]

    words = ["load", str(gallery.folder), "--store", "milvus", "--uri", str(file)]
    assert main(words) == 0 and kept()
    FolderStore(gallery.folder).remove(f"path={PATHS[5]}")
    assert main([*words, "--replace"]) == 0
    assert not kept()
    client = MilvusStore.connect(str(file))
    store = MilvusStore.open(client, "people")
    assert len(store) == COUNT - 1 and {*store.paths()} == {*PATHS} - {PATHS[5]}
    MilvusStore.create(client, "other", replace(CARD, fingerprint="e" * 64))
    client.close()
    assert main([*words, "--replace", "--collection", "other"]) == 1
    assert main([*words, "--replace", "--prune"]) == 2


def test_a_search_waits_for_what_was_written(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MilvusStore.create(client, "people", CARD)
    store.add(ROWS[:3], PATHS[:3], PEOPLE[:3], CAMERAS[:3])
    levels, search = [], client.search

    def recorded(*given: Any, consistency_level: str, **more: Any) -> Any:
        levels.append(consistency_level)
        return search(*given, consistency_level=consistency_level, **more)

    monkeypatch.setattr(client, "search", recorded)
    for change in (
        lambda: None,
        lambda: None,
        lambda: store.add(ROWS[3:4], PATHS[3:4], PEOPLE[3:4], CAMERAS[3:4]),
        lambda: store.discard(PATHS[3:4]),
        lambda: store.remove(f"path={PATHS[2]}"),
        lambda: None,
    ):
        change()
        found = store.search(ROWS[3:4], 4)
    assert levels == ["Strong", "Bounded", "Strong", "Strong", "Strong", "Bounded"]
    assert {*found.paths[0]} == {*PATHS[:2]}


@pytest.mark.parametrize(
    "version, queries", [("milvus_lite-3.2.2", 10), ("v2.3.5-lite", 100), ("v2.6.4", 100)]
)
def test_milvus_lite_is_told_from_a_server(version: str, queries: int) -> None:
    client = SimpleNamespace(get_server_version=lambda: version)
    assert MilvusStore(client, "people", replace(CARD, dim=128))._queries == queries


@pytest.mark.parametrize("kind", ["folder", "milvus"])
def test_what_a_gallery_lost_is_pruned(
    tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(milvus, "PAGE", 70)
    gallery = folder(tmp_path / "g")
    store: VectorStore
    if kind == "folder":
        folder(tmp_path / "other")
        store = FolderStore(tmp_path / "other")
    else:
        store = MilvusStore.create(client, "people", gallery.card)
        load_gallery(gallery, store)
    assert {*store.paths()} == {*PATHS}
    FolderStore(gallery.folder).remove("camid!=1")
    kept = SavedGallery.open(gallery.folder)
    assert prune(kept, store) == 200 and prune(kept, store) == 0
    assert {*store.paths()} == {*kept.paths()} and len(store) == 100
    found = store.search(ROWS[:1], 3)
    wanted = FolderStore(gallery.folder).search(ROWS[:1], 3)
    assert found.paths == wanted.paths


@pytest.mark.parametrize("kind", ["folder", "milvus"])
def test_an_emptied_store_says_so(tmp_path: Path, client: Any, kind: str) -> None:
    """Whether or not there is a filter, and the same for both."""
    gallery = folder(tmp_path / "g")
    store: VectorStore = FolderStore(gallery.folder)
    if kind == "milvus":
        store = MilvusStore.create(client, "people", gallery.card)
        load_gallery(gallery, store)
    name = {"folder": str(gallery.folder), "milvus": "the collection 'people'"}[kind]
    with pytest.raises(GalleryError, match=f"^no image of {name} has camid=9: change the filter$"):
        store.search(ROWS[:2], 3, "camid=9")
    store.remove("path!=''")
    assert len(store) == 0
    for where in ("", "camid=1"):
        with pytest.raises(GalleryError, match=f"^{name} has no images: add some with reid-lab"):
            store.search(ROWS[:2], 3, where)


def test_a_mistyped_file_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a search, before its network is read, nor by changes to what should be there."""
    gallery = str(folder(tmp_path / "g").folder)
    file, mistyped = tmp_path / "people.db", tmp_path / "poeple.db"
    query, network = str(tmp_path / "q.jpg"), str(tmp_path / "last.ckpt")
    search = ["search", gallery, "--image", query, "--checkpoint", network, "--store", "milvus"]
    reads = [search, ["load", gallery, "--prune"], ["load", gallery, "--replace"]]
    for there in (f"{tmp_path} has no file .db", f"{tmp_path} has people.db"):
        for words in reads:
            assert main([*words, "--uri", str(mistyped)]) == 1
            told = capsys.readouterr().err
            assert f"no Milvus file {mistyped}: {there}. Correct --uri" in told
            assert not mistyped.exists()
        assert main(["load", gallery, "--uri", str(file)]) == 0
        capsys.readouterr()
    lost = tmp_path / "lost" / "people.db"
    assert main([*search, "--uri", str(lost)]) == 1
    assert f"{lost.parent} does not exist" in capsys.readouterr().err
    mistyped.mkdir()  # a folder that something else made is not filled, either
    assert main([*search, "--uri", str(mistyped)]) == 1
    assert "has people.db. Correct" in capsys.readouterr().err and not [*mistyped.iterdir()]
    (tmp_path / "text.db").write_text("no database")
    assert main([*search, "--uri", str(tmp_path / "text.db")]) == 1
    told = "".join(capsys.readouterr())
    assert "text.db cannot be opened ([Errno 17] File exists: " in told and "Traceback" not in told
    for words in reads:  # nor a mistyped collection
        assert main([*words, "--uri", str(file), "--collection", "poeple"]) == 1
        assert "no collection 'poeple' in Milvus; there are: people" in capsys.readouterr().err


def test_an_image_that_only_the_store_has_is_told(tmp_path: Path, client: Any) -> None:
    gallery = folder(tmp_path / "g")
    store = MilvusStore.create(client, "people", gallery.card)
    load_gallery(gallery, store)
    store.discard(PATHS[:1])
    store.add(ROWS[:1], ["/elsewhere.jpg"], PEOPLE[:1], CAMERAS[:1])
    with pytest.raises(
        GalleryError,
        match=r"the store has /elsewhere.jpg, .*run reid-lab gallery load .*/g --prune",
    ):
        StoreIndex(gallery, store).search(ROWS[:1], 1)
