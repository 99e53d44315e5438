"""experiments.frontier_cuhk03: what is drawn is in the studies' tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.frontier_cuhk03 import __main__ as study
from experiments.frontier_cuhk03.__main__ import PLACES, Training, trainings
from experiments.tables import read, write
from reid_lab.frontier.published import rows as published


@pytest.mark.parametrize("training", [*trainings()], ids=lambda t: f"{t.table}-{t.run}")
def test_labelled_exits_are_in_the_tables(training: Training) -> None:
    assert set(training.names) <= {name for _, _, name in training.points()}


@pytest.mark.parametrize("name", ["dare_cuhk03", "han_cuhk03", "jlml_cuhk03", "lomo_cuhk03"])
def test_the_best_training_of_a_study_is_drawn(name: str) -> None:
    folder = study.HERE.parent
    best = {
        path.relative_to(folder).as_posix(): max(float(row["rank1"]) for row in read(path))
        for path in (folder / name).rglob("results.csv")
    }
    assert max(best, key=best.__getitem__) in {training.table for training in trainings()}


def test_labelled_papers_are_published() -> None:
    assert set(PLACES) <= {row["method"] for row in published()}


def test_seeds_are_averaged_and_exits_ordered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits = [("a/seed0", "late", 20, 0.5), ("a/seed0", "early", 10, 0.2), ("b/seed0", "late", 9, 0)]
    exits += [("a/seed1", "late", 20, 0.7), ("a/seed1", "early", 10, 0.2)]
    keys = ("run", "name", "mul_adds", "rank1")
    write(tmp_path / "t.csv", [dict(zip(keys, row, strict=True), kind="exit") for row in exits])
    monkeypatch.setattr(study, "HERE", tmp_path / "study")
    points = Training("t.csv", "a/seed*", "k", "o", {}).points()
    assert points == [(10, pytest.approx(20), "early"), (20, pytest.approx(60), "late")]
