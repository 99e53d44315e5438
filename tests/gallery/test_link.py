"""Tracklets of two cameras are matched one to one, or to nobody."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid_lab.gallery.link import assign, links
from reid_lab.gallery_format.embedding_files import EmbeddedImages, write_embeddings
from reid_lab.output.console import stdout
from tests.commands import gallery as main
from tests.conftest import write_jpegs

Run = Callable[..., str]


def cost(away: np.ndarray, pairs: list[tuple[int, int]], threshold: float) -> float:
    return sum(away[pair] - threshold for pair in pairs)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 2), (1, 1)])
@pytest.mark.parametrize("threshold", [0.05, 0.3, 2.0])
def test_no_other_matching_is_better(shape: tuple[int, int], threshold: float) -> None:
    """Against every subset of every one-to-one matching."""
    away = np.random.default_rng(sum(shape)).random(shape)
    few, many = sorted(shape)
    best = 0.0
    for chosen in itertools.permutations(range(many), few):
        pairs = [(i, j) if shape[0] == few else (j, i) for i, j in enumerate(chosen)]
        near = [pair for pair in pairs if away[pair] < threshold]
        best = min(best, cost(away, near, threshold))
    found = assign(away, threshold)
    assert all(away[pair] < threshold for pair in found)
    assert len({a for a, _ in found}) == len({b for _, b in found}) == len(found)
    assert cost(away, found, threshold) == pytest.approx(best)


def test_links_name_who_is_alone_and_what_comes_next() -> None:
    away = np.array([[0.1, 0.2, 9.0], [0.15, 0.9, 0.8]])
    found = links(away, 0.5)
    assert [(x.a, x.b) for x in found] == [(1, 0), (0, 1), (None, 2)]  # not the nearest pair
    assert [x.distance for x in found] == [0.15, 0.2, 0.8]
    assert [x.next for x in found] == [0.1, 0.1, 9.0]
    assert [(x.a, x.b) for x in links(away, 0.01)] == [(0, None), (1, None)] + [
        (None, b) for b in range(3)
    ]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        assert main(["link", *map(str, words)]) == status
        return "".join(capsys.readouterr())

    return call


def write(name: str, rows: list[list[float]], people: list[str], key: str = "a" * 64) -> None:
    paths = np.array([f"{name}{i}.jpg" for i in range(len(rows))])
    tracks = np.array([f"t{person}" for person in people])
    exits = {"fusion": np.array(rows, np.float32), "early": np.array(rows, np.float32)}
    images = EmbeddedImages(key, exits, paths, np.array(people), tracklets=tracks)
    write_embeddings(Path(name), images)


def test_files_of_embeddings_are_linked(run: Run) -> None:
    write("a.npz", [[0, 0.1], [0, -0.1], [5, 5]], ["ann", "ann", "bob"])
    write("b.npz", [[5, 5.2], [0.1, 0], [9, 0]], ["bob", "ann", "eve"])
    printed = run("a.npz", "b.npz", "--exit", "fusion", "--threshold", 1, "--out", "x.jsonl")
    assert "2 links nearer than 1.0000; unmatched: 0 tracklets in A, 1 in B" in printed
    assert "2 of 2 links right by their names" in printed
    rows = [json.loads(line) for line in Path("x.jsonl").read_text("utf-8").splitlines()]
    assert [(row["a"], row["b"], row["linked"]) for row in rows] == [
        ("tann", "tann", True),
        ("tbob", "tbob", True),
        ("", "teve", False),
    ]
    assert rows[0]["a_images"] == 2 and rows[0]["a_spread"] == pytest.approx(0.1, abs=1e-6)
    printed = run("a.npz", "b.npz", "--exit", "fusion", "--threshold", 1)
    assert "nobody" in printed and "✓" in printed
    write("c.npz", [[5, 5.2]], ["bob"], key="b" * 64)
    for words, message in {
        ("a.npz", "b.npz", "--threshold", 1): "has several exits: give --exit, one of fusion, ea",
        (
            "a.npz",
            "c.npz",
            "--threshold",
            1,
            "--exit",
            "early",
        ): "a.npz and c.npz are of two models",
        ("a.npz", "b.npz", "--exit", "early"): "give --threshold, or --gallery with",
        ("a.npz", "b.npz", "--false-accept-rate", 0.1): "--false-accept-rate needs --gallery",
        ("a.npz", "nowhere", "--threshold", 1, "--exit", "early"): "give --checkpoint",
    }.items():
        assert message in run(*words, status=1)


def test_numbers_are_the_same_person_with_leading_zeros(run: Run) -> None:
    write("a.npz", [[0, 0.1], [5, 5]], ["0010", "ann"])
    write("b.npz", [[0, 0], [5, 5.2]], ["10", "bob"])
    words = ("a.npz", "b.npz", "--exit", "fusion", "--threshold", 1)
    assert "1 of 2 links right by their names" in run(*words, "--out", "x.jsonl")
    rows = [json.loads(line) for line in Path("x.jsonl").read_text("utf-8").splitlines()]
    assert [(row["a_pid"], row["b_pid"], row["right"]) for row in rows] == [
        ("0010", "0010", True),
        ("ann", "bob", False),
    ]


def test_long_names_do_not_cut_distances(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdout, "_width", 80)
    ann, eve = "ann" * 30, "eve" * 30
    write("a.npz", [[0, 0.1], [0, -0.1], [5, 5]], [ann, ann, "bob"])
    write("b.npz", [[5, 5.2], [0.1, 0], [9, 0]], ["bob", ann, eve])
    lines = run("a.npz", "b.npz", "--exit", "early", "--threshold", 1).splitlines()
    rows = [line.split() for line in lines if re.search(r" \d\.\d{4} ", line)][:3]
    wanted = [["0.1000", "7.0007", "✓"], ["0.2000", "6.4031", "✓"], ["6.4031", "9.0000"]]
    assert [row[2:] for row in rows] == wanted
    assert rows[2][0] == "nobody"
    words = "".join(word for line in lines for word in line.split())
    assert words.count("ann") + words.count("eve") > 70 and max(map(len, lines[:12])) <= 80


def test_folders_of_tracklets_are_linked(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    write_jpegs(tmp_path / "one", ["ann/1.jpg", "ann/2.jpg", "bob/3.jpg"], (64, 32))
    for name in ("ann", "bob"):
        (tmp_path / "two" / name).mkdir(parents=True)
        for path in (tmp_path / "one" / name).iterdir():
            (tmp_path / "two" / name / path.name).write_bytes(path.read_bytes())
    words = ("one", "two", "--checkpoint", checkpoint)
    run(*words, "--threshold", 0.001, "--out", "x.jsonl")
    rows = [json.loads(line) for line in Path("x.jsonl").read_text("utf-8").splitlines()]
    assert {(row["a"], row["b"]) for row in rows} == {("ann", "ann"), ("bob", "bob")}
    build = ("build", "--checkpoint", checkpoint, "--images", "one", "--out", "g", "--metric")
    assert main([str(word) for word in (*build, "cosine")]) == 0
    words = (*words, "--gallery", "g", "--false-accept-rate", 0.1)
    assert "has no thresholds of pairs: fit them with" in run(*words, status=1)
