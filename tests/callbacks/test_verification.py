"""Rows that the verification callback adds, and options that it refuses."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.callbacks.verification import Verification, VerificationError
from reid_lab.checkpoint import fingerprint
from reid_lab.config.build import build_model
from reid_lab.protocol import Protocol
from reid_lab.results import Results
from reid_lab.retrieval import Embeddings, Evaluation, Exit, Ids, evaluate
from reid_lab.retrieval.space import Space
from reid_lab.retrieval.verification import roc
from tests.conftest import TINY, Compose

MODEL: Any = SimpleNamespace(hparams={})  # of no checkpoint


def evaluated(persons: int, protocol: Protocol | None = None) -> Evaluation:
    """Two exits, the second the better one, and a reference."""
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(1, persons + 1), 6)
    camids = np.tile([1, 1, 2, 2, 3, 3], persons)
    with_nobody = np.concatenate([pids, np.zeros(20, int), -np.ones(5, int)])
    places = rng.normal(size=(persons + 1, 8))[np.maximum(with_nobody, 0)]

    def part(prefix: str, rows: np.ndarray) -> tuple[Ids, Any]:
        names = np.array([f"{prefix}{i}.jpg" for i in range(len(rows))], dtype=object)
        cameras = np.resize(camids, len(with_nobody))[rows]
        own = Ids(torch.from_numpy(with_nobody[rows]), torch.from_numpy(cameras), names)
        return own, lambda noise: torch.from_numpy(
            places[rows] + noise * rng.normal(size=(len(rows), 8))
        ).float()

    query, q = part("q", np.arange(0, len(pids), 2))
    gallery, g = part("g", np.arange(len(with_nobody)))
    exits = {
        "stage1": Exit(q(1.0), g(1.0), 10),
        "fusion": Exit(q(0.4), g(0.4), 30),
        "histogram": Exit(q(2.0), g(2.0), 1, reference=True),
    }
    return evaluate(Embeddings(query, gallery, exits), protocol=protocol or Protocol())


def results_of(callback: Verification, evaluation: Evaluation) -> Results:
    results = Results()
    callback.add(results, evaluation, MODEL)
    return results


def test_adds_curves_and_operating_points() -> None:
    evaluation = evaluated(30)
    callback = Verification(false_accept_rates=(0.1, 0.01), seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = results_of(callback, evaluation)

    points = results.operating_points
    assert {(p.metric, p.fingerprint) for p in points} == {("euclidean", "")}
    assert [(p.exit, p.fmr) for p in points] == [
        ("stage1", 0.1),
        ("stage1", 0.01),
        ("fusion", 0.1),
        ("fusion", 0.01),
    ]
    exit, e = evaluation.embeddings.exits["fusion"], evaluation.embeddings
    whole = roc(Space.of(exit.query, exit.gallery), e.query, e.gallery)
    assert points[2].tmr_at_fmr == whole.tmr_at(0.1)
    for p in points:
        assert p.calibration_fmr <= p.fmr
        assert 0 <= p.tpir + p.miss <= 1
        assert p.tpir_low <= p.tpir <= p.tpir_high and p.known_fmr_low < p.known_fmr_high
        assert p.known_queries == p.unknown_queries == 30
        assert p.note == ""
    assert points[2].tpir > points[0].tpir  # the better exit

    assert {row.exit for row in results.roc} == {"stage1", "fusion"}
    fusion = [row for row in results.roc if row.exit == "fusion"]
    assert 20 < len(fusion) <= 100 and fusion[-1].fmr == 1
    assert whole.at(fusion[5].threshold) == (fusion[5].fmr, fusion[5].tmr)


def test_obeys_the_protocol_and_the_chosen_exits() -> None:
    evaluation = evaluated(30, Protocol(hidden="same_camera"))
    (point,) = results_of(Verification((0.1,), exits=["fusion"]), evaluation).operating_points
    exit, e = evaluation.embeddings.exits["fusion"], evaluation.embeddings
    shown = roc(Space.of(exit.query, exit.gallery), e.query, e.gallery, "same_camera")
    assert point.exit == "fusion" and point.tmr_at_fmr == shown.tmr_at(0.1)


def test_rates_that_the_data_cannot_show_are_nan_and_noted() -> None:
    with pytest.warns(UserWarning, match="impostor pairs show no rate below") as said:
        low = results_of(Verification((0.1, 1e-6)), evaluated(30)).operating_points[1]
    assert len(said) == 1 and str(said[0].message).count("below") == 1  # exits do not repeat it
    assert math.isnan(low.threshold) and math.isnan(low.fpir)
    assert low.note.endswith("e-04")


@pytest.mark.parametrize(("persons", "reason"), [(4, "4 people"), (8, "impostor pairs")])
def test_too_small_a_data_set_adds_no_points(persons: int, reason: str) -> None:
    with pytest.warns(UserWarning, match=f"verification: .*{reason}") as said:
        assert not results_of(Verification((1e-5,)), evaluated(persons)).operating_points
    assert len(said) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exits": ["stage9"]}, "unknown exit stage9; available: stage1, fusion"),
        ({"false_accept_rates": ()}, "give one or more"),
        ({"false_accept_rates": (0.1, 0.0)}, "above 0 and at most 1"),
        ({"false_accept_rates": (1.5,)}, "callbacks.verification.false_accept_rates=\\[1.5\\]"),
    ],
)
def test_refuses_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        Verification(**options).check({"stage1": 10, "fusion": 30}, MODEL)


def test_rows_carry_the_fingerprint_of_the_tested_weights(
    composed: Compose, tmp_path: Path
) -> None:
    model = build_model(composed("model=dare", *TINY))
    state = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    torch.save(state, tmp_path / "last.ckpt")
    results = Results()
    Verification((0.1,)).add(results, evaluated(30), model)
    wanted = {fingerprint(tmp_path / "last.ckpt")}
    assert {row.fingerprint for row in results.operating_points} == wanted
