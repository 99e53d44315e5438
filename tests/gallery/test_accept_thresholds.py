"""Thresholds and verdicts against a loop over all pairs; known, unknown and ambiguous people."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.errors import UserError
from reid_lab.files.strict_json import read_json
from reid_lab.files.tables import write_json
from reid_lab.gallery.accept_thresholds import fit_own_thresholds, thresholds_of_test
from reid_lab.gallery.store import SavedGallery
from reid_lab.gallery.writer import create
from reid_lab.gallery_format.writer import RowWriter, locked
from reid_lab.openset.thresholds import AcceptThreshold, AcceptThresholds, thresholds_of_kind
from reid_lab.results.rows.verification import OPERATING_POINTS, OperatingPointRow
from reid_lab.results.summary import Summary
from reid_lab.retrieval.embeddings import Ids
from reid_lab.runtime.gallery import Gallery
from tests.gallery.test_store import CARD, MODEL, ids

DIM, PEOPLE, IMAGES = 17, 12, 6


def vectors(seed: int = 0, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Images of twelve people, around a place of their own; and whose they are."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(PEOPLE, DIM))
    who = np.arange(PEOPLE * IMAGES) % PEOPLE
    rows = places[who] + spread * rng.normal(size=(len(who), DIM))
    return rows.astype(np.float32), who


def made(folder: Path, cameras: bool = True, metric: Any = "euclidean") -> SavedGallery:
    """A gallery of them in three cameras, with five unknown people and a distractor."""
    with create(folder, replace(CARD, metric=metric)) as writer:
        writer.append(vectors()[0][:1], ids(900, 901))
    gallery, _ = Gallery.open_rows(folder).remove("path!=''")
    rows, who = vectors()
    people = [f"person {pid}" for pid in who] + [""] * 5 + ["0"]
    more = np.random.default_rng(1).normal(size=(6, DIM)).astype(np.float32)
    gallery.add(
        np.concatenate([rows, more]),
        [f"{i}.jpg" for i in range(len(people))],
        people,
        [f"door {i // PEOPLE % 3}" * cameras for i in range(len(people))],
    )
    return SavedGallery.open(folder)


def calibrated(gallery: SavedGallery, *found: AcceptThresholds) -> SavedGallery:
    with locked(gallery.folder):
        RowWriter(gallery).set_accept_thresholds(found)
    return SavedGallery.open(gallery.folder)


@pytest.mark.parametrize("cameras", [True, False])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_thresholds_are_those_of_a_loop(cameras: bool, metric: Any, tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", cameras, metric)
    searches, pairs = fit_own_thresholds(gallery, [0.5, 0.1, 0.05])
    rows, who = vectors()
    whole = np.concatenate([rows, np.array(gallery.embeddings[-1:], np.float32)])
    if metric == "cosine":
        unit = whole / np.linalg.norm(whole, axis=1, keepdims=True)
        distances = 1 - unit[: len(rows)] @ unit.T
    else:
        distances = np.linalg.norm(rows[:, None] - whole[None], axis=2)
    persons = np.append(who, -1)
    camera = np.arange(len(whole)) // PEOPLE % 3 if cameras else np.arange(len(whole))
    nearest, first_is_right, genuine, impostors = [], [], [], []
    for query in range(len(rows)):
        same = persons == who[query]
        nearest.append(distances[query][~same].min())
        visible = np.where(same & (camera == camera[query]), np.inf, distances[query])
        first_is_right.append((visible.min(), same[visible.argmin()]))
        genuine += visible[same & np.isfinite(visible)].tolist()
        impostors += distances[query][~same].tolist()
    assert (searches.people, searches.trials, searches.images) == (PEOPLE, 72, 73)
    for at in searches.thresholds:
        allowed = math.floor(at.false_accept_rate * 72)  # two searches may end at one pair: a tie
        assert (np.array(nearest) < at.distance - 1e-6).sum() <= allowed
        assert (np.array(nearest) < at.distance + 1e-6).sum() > allowed
        hits = [near < at.distance and right for near, right in first_is_right]
        assert at.true_accept_rate == pytest.approx(np.mean(hits), abs=0.02)
    for at in pairs.thresholds:
        assert np.mean(np.array(impostors) < at.distance) == pytest.approx(
            at.false_accept_rate, abs=0.005
        )
        assert at.true_accept_rate == pytest.approx(
            np.mean(np.array(genuine) < at.distance), abs=0.02
        )


def test_a_rate_of_1_accepts_all_pairs_but_the_farthest(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g")
    searches, pairs = fit_own_thresholds(gallery, [1])
    (search,), (pair,) = searches.thresholds, pairs.thresholds
    assert (search.false_accept_rate, pair.false_accept_rate) == (1, 1)
    assert search.true_accept_rate > 0.9 and pair.true_accept_rate == 1
    assert math.isfinite(search.distance) and math.isfinite(pair.distance)
    calibrated(gallery, searches, pairs)
    assert SavedGallery.open(gallery.folder).verdicts(vectors()[0][:1], 1)


def test_strangers_are_accepted_at_about_the_rate(tmp_path: Path) -> None:
    rng, people = np.random.default_rng(3), 300
    places = rng.normal(size=(people, DIM))
    who = np.arange(people * IMAGES) % people
    rows = (places[who] + 0.5 * rng.normal(size=(len(who), DIM))).astype(np.float32)
    paths = np.array([f"{i}.jpg" for i in range(len(who))], dtype=object)
    with create(tmp_path / "g", CARD) as writer:
        writer.append(rows, Ids(torch.from_numpy(who), torch.arange(len(who)) // people % 3, paths))
    gallery = SavedGallery.open(tmp_path / "g")
    gallery = calibrated(gallery, *fit_own_thresholds(gallery))
    strangers = rng.normal(size=(2000, DIM)).astype(np.float32)
    strangers *= math.sqrt(1.25)  # as far from the centre as the people's images
    for rate in (0.05, 0.2):
        accepted = [v.verdict != "unknown" for v in gallery.verdicts(strangers, rate)]
        assert 0.5 * rate < np.mean(accepted) < 2 * rate
        known = gallery.verdicts(rows[:200] + 0.01, rate)
        nearest = np.array([v.people[0].pid if v.people else -1 for v in known])
        assert np.mean(nearest == who[:200]) > 0.8


def test_verdicts_of_both_searches_are_those_of_a_loop(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g")
    wide = AcceptThreshold(0.1, 4.0, 0.5)
    gallery = calibrated(gallery, AcceptThresholds("pairs", "x", 12, 100, 72, (wide,)))
    rng = np.random.default_rng(2)
    query = np.concatenate([vectors()[0][:20] + 0.2, 2 * rng.normal(size=(20, DIM))])
    query = query.astype(np.float32)
    found = gallery.verdicts(query, 0.1)
    plain = Gallery.open_rows(gallery.folder).verdicts(query, 0.1)
    pids, rows = gallery.pids.numpy(), np.array(gallery.embeddings)
    for vector, one, other in zip(query, found, plain, strict=True):
        distances = np.linalg.norm(rows - vector, axis=1)
        within = {int(pids[i]) for i in np.flatnonzero(distances < 4.0) if pids[i] > 0}
        assert {p.pid for p in one.people} == within
        assert one.verdict == ["unknown", "known", "ambiguous"][min(len(within), 2)]
        assert [p.pid for p in one.people] == [p.pid for p in other.people]
        for person in one.people:
            mine = np.where(pids == person.pid, distances, np.inf)
            assert person.row == mine.argmin()
            assert person.distance == pytest.approx(mine.min(), rel=1e-5)
    assert {v.verdict for v in found} == {"known", "unknown", "ambiguous"}
    few = gallery.verdicts(query, 0.1, "pid='person 1'")
    assert {v.verdict for v in few} == {"known", "unknown"}


def test_thresholds_of_older_galleries_had_other_names(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", True, "euclidean")
    at = AcceptThresholds("searches", "x", 7, 9, 9, (AcceptThreshold(0.1, 1.0, 0.5),))
    assert calibrated(gallery, at).card.accept_thresholds == (at,)
    card = (tmp_path / "g/gallery.json").read_text()
    former = card.replace('"false_accept_rate"', '"rate"').replace(
        "true_accept_rate", "true_accepts"
    )
    assert former != card
    (tmp_path / "g/gallery.json").write_text(former)
    assert SavedGallery.open(tmp_path / "g").card.accept_thresholds == (at,)


def test_a_second_person_behind_a_long_list_is_seen(tmp_path: Path) -> None:
    """More images of one person than are looked at first are nearer."""
    with create(tmp_path / "g", CARD) as writer:
        writer.append(vectors()[0][:1], ids(900, 901))
    gallery, _ = Gallery.open_rows(tmp_path / "g").remove("path!=''")
    rows = np.zeros((1002, DIM), np.float32)
    rows[:, 0] = 1 + np.arange(1002) / 1e4
    at = AcceptThresholds("searches", "x", 2, 9, 9, (AcceptThreshold(0.1, 1.2, 1.0),))
    gallery = gallery.add(rows, [f"{i}" for i in range(1002)], ["Ann"] * 1001 + ["Bob"])
    for opened in (calibrated(SavedGallery.open(gallery.folder), at), gallery):
        opened = type(opened).open_rows(gallery.folder)
        (verdict,) = opened.verdicts(np.eye(1, DIM, dtype=np.float32) * 0.1, 0.1)
        assert [opened.name(p.pid) for p in verdict.people] == ["Ann", "Bob"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"people": [""] * 20}, "0 people with a name, calibration needs 5 or more"),
        ({"people": list("abcd") * 5}, "4 people with a name"),
        ({"people": [f"p{i}" for i in range(20)]}, "no person of .* has images from two cameras"),
        ({"people": [f"p{i}" for i in range(20)], "cameras": None}, "no person .* has two images"),
        ({"cameras": ["door"] * 20}, "no person of .* has images from two cameras"),
        ({"rates": [0.01]}, "20 searches show no false-accept rate below 5.0e-02, 0.01 was given"),
        ({"rates": [1.5]}, "invalid false-accept rate 1.5: give one with 0 < rate <= 1"),
    ],
)
def test_what_calibration_needs_is_reported(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with create(tmp_path / "g", CARD) as writer:
        writer.append(vectors()[0][:1], ids(900, 901))
    gallery, _ = Gallery.open_rows(tmp_path / "g").remove("path!=''")
    labels = {"people": list("abcde") * 4, "cameras": list("xxxxxyyyyy") * 2} | change
    rates = labels.pop("rates", None)
    with pytest.raises(UserError, match=f"{tmp_path / 'g'} has no images: add some"):
        fit_own_thresholds(SavedGallery.open(tmp_path / "g"), rates)
    gallery.add(vectors()[0][:20], [f"{i}" for i in range(20)], **labels)
    with pytest.raises(UserError, match=message):
        fit_own_thresholds(SavedGallery.open(tmp_path / "g"), rates)


def test_a_rate_without_a_threshold_is_an_error(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g")
    with pytest.raises(UserError, match="has no thresholds: fit them with reid-lab gallery cal"):
        gallery.verdicts(vectors()[0], 0.1)
    gallery = calibrated(gallery, *fit_own_thresholds(gallery, [0.2, 0.1]))
    with pytest.raises(UserError, match=r"of 0.05 or less; available: 0.2, 0.1 \(of searches, th"):
        gallery.verdicts(vectors()[0], 0.05)
    assert thresholds_of_kind(gallery.card.accept_thresholds, "g", "pairs").kind == "pairs"
    left, _ = Gallery.open_rows(gallery.folder).remove("pid='person 1'")
    assert left.card.accept_thresholds == gallery.card.accept_thresholds


def test_the_thresholds_of_an_older_gallery_are_read(tmp_path: Path) -> None:
    """They were called calibrations."""
    gallery = made(tmp_path / "g")
    gallery = calibrated(gallery, *fit_own_thresholds(gallery))
    content = read_json(gallery.folder / "gallery.json")
    content["calibrations"] = content.pop("accept_thresholds")
    write_json(gallery.folder / "gallery.json", content)
    assert SavedGallery.open(gallery.folder).card == gallery.card


def test_a_gallery_takes_the_thresholds_of_its_checkpoints_test(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    results = tmp_path / "run" / "results"
    shares = dict.fromkeys(
        ("tmr_at_fmr", "calibration_fmr", "calibration_tmr", "known_fmr", "tpir", "miss", "fpir"),
        0.1,
    )
    counts = dict.fromkeys(
        ("calibration_queries", "known_queries", "unknown_queries", "gallery"), 7
    )
    points = [
        OperatingPointRow(
            exit=exit,
            fmr=far,
            threshold=far * 10,
            known_tmr=0.6,
            metric="euclidean",
            fingerprint=MODEL,
            note="",
            **shares,
            **counts,
        )
        for exit in ("fusion", "stage1")
        for far in (0.01, 0.1)
    ]
    points.append(replace(points[0], fmr=1e-4, threshold=math.nan))
    OPERATING_POINTS.write(results / OPERATING_POINTS.file, points)
    Summary(dataset={"name": "somewhere", "query": {"pids": 30}}).write(results)
    found = thresholds_of_test(checkpoint, MODEL, "fusion", "euclidean")
    assert found is not None and (found.kind, found.source) == ("pairs", "somewhere, test")
    assert [(t.false_accept_rate, t.distance) for t in found.thresholds] == [
        (0.1, 1.0),
        (0.01, 0.1),
    ]
    for other in (("b" * 64, "fusion", "euclidean"), (MODEL, "stage2", "euclidean")):
        assert thresholds_of_test(checkpoint, *other) is None
    assert thresholds_of_test(checkpoint, MODEL, "fusion", "cosine") is None
    assert thresholds_of_test(tmp_path / "alone.ckpt", MODEL, "fusion", "euclidean") is None
