"""The people that a service knows: what is on the disk, and who is near."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from reid_lab.errors import UserError
from reid_lab.gallery_format.card import Card
from reid_lab.gallery_format.writer import RowWriter
from reid_lab.openset.thresholds import OWN, AcceptThreshold, AcceptThresholds, Kind
from reid_lab.runtime.gallery import Gallery
from reid_lab.serve import people_file
from reid_lab.serve.accept_thresholds import KNOWN, AppliedThreshold, PeopleAcceptThresholds
from reid_lab.serve.people import NewImage, People
from reid_lab.serve.people_file import LockedError, PeopleFile, UnwritableError
from reid_lab.serve.upgrade import finish_interrupted
from tests.serve.files import Opened
from tests.serve.network import EXITS, Colours

RNG = np.random.default_rng(0)
DIMS = {e.name: e.dim for e in EXITS}


def random_rows(count: int) -> dict[str, np.ndarray]:
    return {name: RNG.normal(size=(count, dim)).astype(np.float32) for name, dim in DIMS.items()}


def fill(people: People, each: int = 3) -> dict[str, np.ndarray]:
    """Twenty people; the rows of all their images."""
    parts = []
    for number in range(20):
        parts.append(random_rows(each))
        people.add(f"person {number}", [NewImage(f"c{i}") for i in range(each)], parts[-1])
    return {name: np.concatenate([part[name] for part in parts]) for name in DIMS}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_search_equals_a_naive_one_and_survives_a_restart(
    tmp_path: Path, opened: Opened, metric: str
) -> None:
    people = opened(tmp_path / "p.sqlite", metric=metric)
    rows = fill(people)["late"].astype(np.float64)
    query = RNG.normal(size=6).astype(np.float32)
    wide = query.astype(np.float64)
    if metric == "cosine":
        cosines = rows @ wide / np.linalg.norm(rows, axis=1) / np.linalg.norm(wide)
        expected = 1 - cosines
    else:
        expected = np.linalg.norm(rows - wide, axis=1)
    order = np.argsort(expected, kind="stable")[:10]
    for again in (people, opened(tmp_path / "p.sqlite")):
        found = again.search(again.compare("late", query), 10)
        assert [match.image for match in found] == (order + 1).tolist()
        assert [match.distance for match in found] == pytest.approx(expected[order], rel=1e-5)
        assert [match.pid for match in found] == [f"person {i // 3}" for i in order]
    assert again.metric == metric
    assert again.distance("late", query, "person 4") == pytest.approx(expected[12:15].min())


def test_people_of_a_gallery_are_spelled_as_there(tmp_path: Path, opened: Opened) -> None:
    rows = random_rows(5)
    names = ["0010", "10", "0000", "ann", "7"]
    galleries = {}
    for name, its in rows.items():
        Card("colours", dim=DIMS[name], exit=name).write(folder(tmp_path / name))
        writer = RowWriter(Gallery.open_rows(tmp_path / name))
        writer.append_named(its, [f"{i}.jpg" for i in range(5)], names, ["01"] * 5)
        galleries[name] = Gallery.open_rows(tmp_path / name)
    people = opened(tmp_path / "p.sqlite")
    assert people.add_gallery(galleries) == 4  # 0000 is a distractor
    people.add("010", [NewImage()], random_rows(1))
    assert people.listed() == [("0010", 3, 1), ("7", 1, 4), ("ann", 1, 3)]
    query = rows["late"][0]
    found = people.search(people.compare("late", query), 5)
    assert {match.pid for match in found} == {"0010", "7", "ann"}
    assert {match.camid for match in found} == {"1", ""}
    assert people.knows("10") and people.distance("late", query, "10") == pytest.approx(0, abs=1e-6)
    assert people.label("10", True, "late", 0.0, b"") and people.labels()[0][1] == "0010"
    assert people.remove("10") == 3 and not people.knows("0010")
    assert people.labels() == []


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_gallery_of_people_who_were_spelled_otherwise(tmp_path: Path, opened: Opened) -> None:
    """A file of people is older than its gallery's spelling: nobody is two people."""
    people = opened(tmp_path / "p.sqlite")
    people.add("10", [NewImage()], random_rows(1))
    galleries = {}
    for name, its in random_rows(1).items():
        Card("colours", dim=DIMS[name], exit=name).write(folder(tmp_path / name))
        writer = RowWriter(Gallery.open_rows(tmp_path / name))
        writer.append_named(its, ["1.jpg"], ["0010"], [""])
        galleries[name] = writer.gallery
    people.add_gallery(galleries)
    assert people.listed() == [("10", 2, 1)]


def test_two_spellings_at_once_are_one_person(tmp_path: Path, opened: Opened) -> None:
    people, names = opened(tmp_path / "people.sqlite"), ["7", "07", "007", "0007"]
    start = Barrier(len(names))

    def enroll(pid: str) -> None:
        start.wait()
        people.add(pid, [NewImage()], random_rows(1))

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(enroll, names))
    assert len(people) == len(names) and len(people.rows.pids) == 1


def test_ties_are_broken_by_image(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite")
    same = {name: np.ones((1, dim), np.float32) for name, dim in DIMS.items()}
    for pid in "cab":
        people.add(pid, [NewImage()], same)
    assert [match.pid for match in people.search(people.compare("early", np.zeros(3) + 2), 3)] == [
        "c",
        "a",
        "b",
    ]


def test_margin_is_to_the_nearest_other_person(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite")
    queries = RNG.normal(size=(5, 3)).astype(np.float32)
    assert people.margins("early", queries).tolist() == [0] * 5
    rows = fill(people)["early"]
    numbers = np.repeat(np.arange(20), 3)
    for query, margin in zip(queries, people.margins("early", queries), strict=True):
        far = np.linalg.norm(rows - query, axis=1)
        other = far[numbers != numbers[far.argmin()]].min()
        assert margin == pytest.approx(other - far.min(), abs=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_an_excluded_camera_is_as_if_it_was_not_there(
    tmp_path: Path, opened: Opened, metric: str
) -> None:
    people, others = (opened(tmp_path / name, metric=metric) for name in ("all", "others"))
    for number in range(20):
        rows = random_rows(3)
        people.add(f"person {number}", [NewImage(f"c{i}") for i in range(3)], rows)
        kept = {name: part[1:] for name, part in rows.items()}
        others.add(f"person {number}", [NewImage(f"c{i}") for i in (1, 2)], kept)
    queries = RNG.normal(size=(5, 3)).astype(np.float32)
    threshold = AppliedThreshold(0.5, 0.01, "searches", "test", 20)
    without_c0 = ["c0"] * 5
    for again in (people, opened(tmp_path / "all")):  # read from the disk, too
        assert again.margins("early", queries, without_c0) == pytest.approx(
            others.margins("early", queries)
        )
        assert again.nearest("early", queries, without_c0) == pytest.approx(
            others.nearest("early", queries)
        )
        for query in queries:
            found = again.search(again.compare("early", query, "c0"), 10)
            assert {match.camid for match in found} == {"c1", "c2"}
            expected = others.search(others.compare("early", query), 10)
            assert [(m.pid, m.distance) for m in found] == [(m.pid, m.distance) for m in expected]
            far = again.within(again.compare("early", query, "c0"), threshold)
            assert far == others.within(others.compare("early", query), threshold)
    mixed = people.margins("early", queries, ["c0", None, "nowhere", None, None])
    assert mixed[0] == others.margins("early", queries)[0]
    assert (mixed[1:] == people.margins("early", queries)[1:]).all()


def test_queries_of_several_exits_are_compared_together(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite")
    for number in range(9):
        people.add(str(number), [NewImage(f"c{number % 2}")], random_rows(1))
    exits = ["late", "early", "late", "early"]
    queries = [random_rows(1)[exit][0] for exit in exits]
    for exclude in (None, "c0"):
        together = people.compare_each(exits, queries, exclude)
        for exit, query, compared in zip(exits, queries, together, strict=True):
            alone = people.compare(exit, query, exclude)
            assert compared.exit == exit and (compared.query == query).all()
            assert people.search(compared, 9) == people.search(alone, 9)
            assert compared.squared == pytest.approx(alone.squared, rel=1e-4, abs=1e-4)
    assert people.compare_each([], []) == []


def test_without_another_camera_there_is_no_match(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite")
    for pid in "ab":
        people.add(pid, [NewImage("c0")], random_rows(1))
    query = RNG.normal(size=(1, 3)).astype(np.float32)
    assert people.search(people.compare("early", query[0], "c0"), 5) == []
    assert people.margins("early", query, ["c0"]).tolist() == [0]
    assert people.nearest("early", query, ["c0"]).tolist() == [np.inf]


def test_removing_leaves_nothing_on_the_disk(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite")
    fill(people)
    rows = random_rows(2)
    secret = b"thumbnail of someone" * 20
    people.add("someone", [NewImage(thumbnail=secret), NewImage()], rows)
    people.label("someone", True, "late", 0.5, secret)
    kept = [match.image for match in people.search(people.compare("late", rows["late"][0]), 100)]
    assert people.remove("someone") == 2
    assert people.remove("someone") == 0
    left = [match.image for match in people.search(people.compare("late", rows["late"][0]), 100)]
    assert left == [image for image in kept if image < 61]
    assert people.labels() == []
    people.close()
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert b"someone" not in data
        assert rows["late"][0].tobytes() not in data
    assert len(opened(tmp_path / "p.sqlite")) == 60


def test_snapshots_do_not_change(tmp_path: Path, opened: Opened) -> None:
    """A search that runs while people are added or removed sees one state."""
    people = opened(tmp_path / "p.sqlite")
    fill(people)
    before = people.rows
    copy = before.exits["late"].copy()
    fill(people)
    people.remove("person 3")
    fill(people)
    assert len(before) == 60
    assert (before.exits["late"] == copy).all()
    assert people.count() == (20, 60 + 60 - 6 + 60)


def test_threshold_accepts_the_wanted_share_of_strangers(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite")
    assert people.threshold("late", 0.1) is None
    for number in range(400):
        people.add(str(number), [NewImage()], random_rows(1))
    threshold = people.threshold("late", 0.1)
    assert threshold is not None and threshold.people == 400
    strangers = RNG.normal(size=(2_000, 6)).astype(np.float32)
    accepted = (people.nearest("late", strangers) < threshold.distance).mean()
    assert accepted == pytest.approx(0.1, abs=0.04)
    assert people.threshold("late", 0.01).distance < threshold.distance  # type: ignore[union-attr]


def calibration(source: str, kind: Kind = "searches", images: int = 60) -> AcceptThresholds:
    far = {"searches": 0.5, "pairs": 0.25}[kind] + (source == OWN)
    return AcceptThresholds(kind, source, 9, 9, images, (AcceptThreshold(0.01, far, 1.0),))


def test_whose_threshold_is_used(tmp_path: Path, opened: Opened) -> None:
    """A calibrated gallery's, the known people's, the network's, a coarse one, or none."""
    people = opened(tmp_path / "p.sqlite")
    network = (calibration("x, held out"), calibration("x, held out", "pairs"))
    own = (calibration(OWN), calibration(OWN, "pairs"))

    def chosen(rate: float = 0.01, exit: str = "late", pairs: bool = False) -> tuple[Any, ...]:
        found = people.threshold(exit, rate, pairs)
        return (found.source, found.kind, found.people) if found else (None,)

    assert chosen() == (None,)
    people.thresholds.fitted["late"] = network
    assert chosen() == ("x, held out", "searches", 9)  # before anybody is known
    assert chosen(pairs=True) == ("x, held out", "pairs", 9)
    assert chosen(0.2) == ("x, held out", "searches", 9)  # the next lower rate that it has
    fill(people)  # twenty people, 60 images
    assert chosen() == ("x, held out", "searches", 9)  # 60 images show no rate of 1%
    assert chosen(0.2) == (KNOWN, "searches", 20)
    assert chosen(exit="early") == (KNOWN, "searches", 20)  # coarse: there is no other
    people.thresholds.take("late", own, "g/late")
    assert (
        chosen() == ("gallery g/late", "searches", 9)
        and people.threshold("late", 0.01).distance == 1.5
    )  # type: ignore[union-attr]
    assert chosen(pairs=True) == ("gallery g/late", "pairs", 9)
    fill(people)
    fill(people)  # 180 images: thrice those of the calibration
    assert chosen() == (KNOWN, "searches", 20)
    shared = PeopleAcceptThresholds(
        ("late",), "euclidean", {"early": network}
    )  # of queries at `early`
    found = shared.at(people.rows, "early", 0.01)
    assert found is not None and found.source == "x, held out"


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_stricter_rate_has_no_larger_threshold(
    tmp_path: Path, opened: Opened, metric: str
) -> None:
    """Whatever is calibrated: own, held out and pairs at far apart distances, or nothing."""
    rates = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 1e-5)
    for number, images in enumerate((1, 3, 12)):
        people = opened(tmp_path / f"{number}.sqlite", metric=metric)
        fill(people, images)
        for _ in range(10):
            found = []
            for source, kind in ((OWN, "searches"), ("x", "searches"), (OWN, "pairs")):
                some = sorted(RNG.choice(rates, RNG.integers(0, 5), replace=False), reverse=True)
                distances = np.sort(RNG.uniform(0, 2, len(some)))[::-1]
                fitted = tuple(
                    AcceptThreshold(float(r), float(d), 1.0)
                    for r, d in zip(some, distances, strict=True)
                )
                if fitted:
                    found.append(AcceptThresholds(kind, source, 9, 9, 60, fitted))
            people.thresholds.fitted["late"] = tuple(found)
            shown = [people.threshold("late", rate) for rate in rates]
            assert all(t is not None and t.kind == "searches" for t in shown)
            distances = np.array([t.distance for t in shown if t])
            assert (np.diff(distances) <= 0).all()
            assert all(
                t.false_accept_rate <= r or t.coarse for t, r in zip(shown, rates, strict=True) if t
            )
        people.close()


def test_what_too_few_images_show_is_coarse(tmp_path: Path, opened: Opened) -> None:
    """60 images show 1 / 60: for less it is the smallest distance, with that rate."""
    people = opened(tmp_path / "p.sqlite")
    fill(people)
    fine, coarse = (people.threshold("late", rate) for rate in (0.05, 1e-7))
    assert fine and not fine.coarse and fine.false_accept_rate == 0.05
    assert coarse and coarse.coarse and coarse.false_accept_rate == pytest.approx(1 / 60)
    assert coarse.distance < fine.distance


def test_another_network_is_refused(tmp_path: Path, opened: Opened) -> None:
    opened(tmp_path / "p.sqlite").close()
    with pytest.raises(UserError, match="of the model colours, this export is other"):
        People.open(tmp_path / "p.sqlite", Colours("other").manifest)


def test_another_file_is_refused(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to be one" * 50)
    with pytest.raises(UserError, match="is not a file of people"):
        opened(tmp_path / "text.sqlite")
    with pytest.raises(UserError, match=r"is not a file of people \(a folder\)"):
        opened(tmp_path)
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(UserError, match="is not a file of people"):
        opened(tmp_path / "other.sqlite")


def test_a_file_that_another_process_holds_is_a_file_of_people(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_file, "WAIT_SECONDS", 0.05)
    opened(tmp_path / "p.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "p.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockedError, match="another process holds"):
            opened(tmp_path / "p.sqlite")
    opened(tmp_path / "p.sqlite")


@pytest.mark.parametrize(
    ("what", "kind", "text"),
    [
        ("database is locked", LockedError, "another process holds"),
        ("database or disk is full", UnwritableError, "free space on that disk"),
        ("attempt to write a readonly database", UnwritableError, "make the file and its folder"),
    ],
)
def test_what_keeps_a_change_from_the_file_is_told(
    tmp_path: Path,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    kind: type[UserError],
    text: str,
) -> None:
    people = opened(tmp_path / "p.sqlite")

    def fails(file: PeopleFile, statement: str, *values: object) -> sqlite3.Cursor:
        raise sqlite3.OperationalError(what)

    with monkeypatch.context() as patch:
        patch.setattr(PeopleFile, "change", fails)
        with pytest.raises(kind, match=text):
            people.add("x", [NewImage()], random_rows(1))
    assert people.add("x", [NewImage()], random_rows(1))


def test_rows_removed_while_another_process_reads_leave_the_log_later(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_file, "WAIT_SECONDS", 0.05)
    people, log = opened(tmp_path / "p.sqlite"), tmp_path / "p.sqlite-wal"
    secret = NewImage(thumbnail=b"what nobody may see")
    people.add("x", [secret], random_rows(1))
    with closing(sqlite3.connect(tmp_path / "p.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT pid FROM image").fetchall()
        assert people.remove("x") == 1
        assert not people.knows("x") and secret.thumbnail in log.read_bytes()
        other.execute("COMMIT")
    people.add("y", [NewImage()], random_rows(1))
    assert secret.thumbnail not in log.read_bytes() + (tmp_path / "p.sqlite").read_bytes()


def test_a_kill_while_the_file_is_made(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files before each statement are copied, as a kill leaves them: the next start works."""
    copies: list[Path] = []

    def copy(statement: str) -> None:
        copies.append(tmp_path / str(len(copies)))
        copies[-1].mkdir()
        for file in tmp_path.glob("p.sqlite*"):
            shutil.copy(file, copies[-1])

    class Traced(sqlite3.Connection):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self.set_trace_callback(copy)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Traced))
    opened(tmp_path / "p.sqlite", metric="cosine")
    monkeypatch.undo()
    assert len(copies) > 10
    for folder in copies:
        path = folder / "p.sqlite"
        assert finish_interrupted(path, Colours(), {}, "cosine") is None  # type: ignore[arg-type]
        people = opened(path, metric="cosine")
        assert people.metric == "cosine" and people.exits == ("early", "late")


def test_half_of_an_addition_is_never_there(tmp_path: Path, opened: Opened) -> None:
    people = opened(tmp_path / "p.sqlite")
    rows = {**random_rows(2), "late": np.full((2, 6), np.nan, np.float32)}
    with pytest.raises(UserError, match="exit late is not finite"):
        people.add("x", [NewImage(), NewImage()], rows)
    with pytest.raises(ValueError):
        people.add("x", [NewImage(), NewImage()], random_rows(3))
    assert people.count() == (0, 0)
    assert len(opened(tmp_path / "p.sqlite")) == 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_people_within_a_distance_are_counted_behind_any_number_of_images(
    tmp_path: Path, opened: Opened, metric: str
) -> None:
    people = opened(tmp_path / "p.sqlite", metric=metric)
    for pid, count, far in (("many", 300, 0.1), ("second", 1, 0.2), ("third", 1, 0.9)):
        row = np.array([1, far, 0, 0, 0, 0], np.float32)
        rows = {"early": np.tile(row[:3], (count, 1)), "late": np.tile(row, (count, 1))}
        people.add(pid, [NewImage()] * count, rows)
    query = np.array([1, 0, 0, 0, 0, 0], np.float32)
    for rank, expected in ((0, 0), (300, 1), (301, 2)):
        distance = people.search(people.compare("late", query), 302)[rank].distance
        threshold = AppliedThreshold(distance * 0.999, 0.1, "searches", "x", 3)
        assert people.within(people.compare("late", query), threshold) == expected
