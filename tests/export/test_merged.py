"""Images that remain after an exit are merged: the answers of a stream, in full batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid_lab.runtime import ExportError, MergedStream, Model
from tests.export.conftest import noise


def exits_here(exit: str, rows: np.ndarray) -> np.ndarray:
    """About a third, each by its own embedding."""
    return np.asarray((1e3 * np.abs(rows).sum(1)).astype(int) % 3 == 0)


class Noting(Model):
    """Notes how many images each stage has run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ran: list[tuple[int, int]] = []

    def advance(self, s: int, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.ran.append((s, len(next(iter(values.values())))))
        return super().advance(s, values)


@pytest.mark.parametrize(("size", "full"), [(1, 4), (5, 4), (4, 7)])
def test_answers_are_those_of_a_stream(dare: Path, size: int, full: int) -> None:
    model, pixels = Noting(dare / "out"), noise(22)
    expected = model.stream(pixels, exits_here)
    assert len(set(expected.exits)) > 2
    model.ran.clear()
    batches = np.array_split(pixels, range(size, 22, size))
    found = sorted(MergedStream(model, exits_here, full)(batches), key=lambda a: a.number)
    assert [answer.number for answer in found] == [*range(22)]
    assert [answer.exit for answer in found] == expected.exits
    for answer, row in zip(found, expected.embeddings, strict=True):
        np.testing.assert_allclose(answer.embedding, row, atol=1e-5)
    smaller = Counter(s for s, count in model.ran if count < full)
    assert max(smaller.values()) == 1 and all(count <= full for _, count in model.ran)


def test_a_late_image_is_not_held_back(dare: Path) -> None:
    """A batch of three a second, and two without images: all exit within two seconds."""
    now, exited, expected = [0.0], dict[int, float](), dict[int, str]()
    model = Noting(dare / "out")
    stream = MergedStream(model, exits_here, full=64, wait=2.0, clock=lambda: now[0])
    pixels = noise(12)

    def arriving() -> Iterator[np.ndarray]:
        for start in range(0, 12, 3):
            yield pixels[start : start + 3]
            now[0] += 1
        for _ in range(2):  # without images
            yield pixels[:0]
            now[0] += 1
        raise AssertionError("all have exited")

    answers = stream(arriving())
    for answer in (next(answers) for _ in range(12)):
        exited[answer.number], expected[answer.number] = now[0], answer.exit
    # those that wait with a late one run with it
    assert exited == {number: 2.0 if number < 9 else 5.0 for number in range(12)}
    assert [expected[n] for n in range(12)] == model.stream(pixels, exits_here).exits


def test_limits_are_checked(dare: Path) -> None:
    model = Model(dare / "out")
    for wrong in ({"full": 0}, {"wait": -1.0}, {"wait": float("nan")}):
        with pytest.raises(ExportError, match="full is 1 or more, wait 0 s or more"):
            MergedStream(model, exits_here, **wrong)  # type: ignore[arg-type]
    early = model.manifest
    model.manifest = replace(early, exits=[replace(e, stream=False) for e in early.exits])
    with pytest.raises(ExportError, match="has no early exits: use embed"):
        MergedStream(model, exits_here)
    model.manifest = early
    with pytest.raises(ExportError, match="this network takes uint8"):
        list(MergedStream(model, exits_here)([np.zeros((1, 2, 2, 3), np.uint8)]))
    assert list(MergedStream(model, exits_here)([])) == []
