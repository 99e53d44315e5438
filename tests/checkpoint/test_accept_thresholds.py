"""Thresholds in a checkpoint: kept with its weights, and only with them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from reid_lab.checkpoint import (
    CheckpointError,
    fingerprint,
    load_model,
    put_accept_thresholds,
    read_accept_thresholds,
)
from reid_lab.checkpoint.accept_thresholds import KEY
from reid_lab.openset.thresholds import AcceptThreshold, AcceptThresholds
from tests.methods import method, save

ONE = AcceptThresholds("searches", "x", 5, 10, 10, (AcceptThreshold(0.1, 1.0, 0.5),))
FOUND = {"fusion": {"euclidean": (ONE,)}}


def test_a_model_has_the_thresholds_of_its_checkpoint(tmp_path: Path) -> None:
    path = save(method("dare"), tmp_path / "last.ckpt")
    key = fingerprint(path)
    assert load_model(path).accept_thresholds == {}  # as checkpoints of earlier versions
    assert not put_accept_thresholds(path, FOUND, "another")
    assert read_accept_thresholds(path) == (key, {})
    assert put_accept_thresholds(path, FOUND, key)
    assert load_model(path).accept_thresholds == FOUND
    assert read_accept_thresholds(path) == (key, FOUND)  # they do not change the fingerprint
    state = torch.load(path, weights_only=True)
    name = next(n for n, weight in state["state_dict"].items() if weight.is_floating_point())
    (kinds,) = state[KEY]["exits"]["fusion"].values()
    kinds[0]["thresholds"] = [{"rate": 0.1, "distance": 1.0, "true_accepts": 0.5}]  # of before
    torch.save(state, path)
    assert load_model(path).accept_thresholds == FOUND
    state["state_dict"][name] += 1  # as a training that goes on
    torch.save(state, path)
    assert load_model(path).accept_thresholds == {}


@pytest.mark.parametrize(
    "kept",
    [
        {"fusion": {"euclidean": [{**asdict(ONE), "people": -1}]}},
        {"fusion": {"euclidean": [{**asdict(ONE), "thresholds": []}]}},
        {"fusion": [1]},
        {"fusion": {"euclidean": [{**asdict(ONE), "source": "x" * 501}]}},
        7,
    ],
)
def test_malformed_thresholds_are_an_error(kept: object, tmp_path: Path) -> None:
    path = save(method("dare"), tmp_path / "last.ckpt")
    state = torch.load(path, weights_only=True)
    torch.save({**state, KEY: {"fingerprint": fingerprint(path), "exits": kept}}, path)
    with pytest.raises(CheckpointError, match="last.ckpt holds malformed thresholds"):
        load_model(path)
