from __future__ import annotations

import argparse
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.backbone import WeightsError
from reid_lab.backbone.weights import read_weights

STATE = {"conv.weight": torch.arange(4.0), "conv.bias": torch.zeros(1)}


class Bomb:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch canary",)


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE,
        {"rng_state": torch.zeros(2), "state_dict": STATE, "epoch": 3},
        {"model": STATE, "iteration": 3},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module.{key}": value for key, value in STATE.items()}},
    ],
    ids=["bare", "state_dict", "model", "parallel", "both"],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_ways_to_keep_a_state_dict(tmp_path: Path, wrapped: Any, legacy: bool) -> None:
    path = tmp_path / "model.pth.tar-60"
    torch.save(wrapped, path, _use_new_zipfile_serialization=not legacy)
    file = read_weights(path)
    assert {*file.state} == {*STATE}
    assert torch.equal(file.state["conv.weight"], STATE["conv.weight"])


def test_numbers_of_numpy_and_counters_are_read(tmp_path: Path) -> None:
    """torchreid keeps the accuracy, and the scheduler's milestones."""
    others = {"rank1": np.float64(0.9), "epoch": np.int64(3), "milestones": Counter([40])}
    torch.save({"state_dict": STATE, **others}, tmp_path / "model.pth")
    file = read_weights(tmp_path / "model.pth")
    assert file.others["rank1"] == 0.9
    assert file.others["epoch"] == 3


def test_safetensors_with_metadata(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(STATE, tmp_path / "model.safetensors", {"architecture": "resnet50"})
    file = read_weights(tmp_path / "model.safetensors")
    assert torch.equal(file.state["conv.weight"], STATE["conv.weight"])
    assert file.others == {"architecture": "resnet50"}


def test_malformed_files_have_one_message_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"state_dict": STATE}, tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    expanded = torch.zeros(1).expand(10**9)
    contents = {
        "empty": (b"", "the file is empty"),
        "truncated": (good[: len(good) // 2], "truncated, or not written by torch"),
        "damaged": (good.replace(STATE["conv.weight"].numpy().tobytes(), b"x" * 16), "checksum"),
        "text": (b"<html>not found</html>", "truncated, or not written by torch"),
        "pickle": (pickle.dumps(Bomb(), 2), "it holds a (posix|nt).system, and only tensors"),
        "pickle 4": (pickle.dumps(Bomb(), 4), "truncated, or not written by torch"),
    }
    objects = {
        "bomb": (Bomb(), "it holds a (posix|nt).system, and only tensors and plain values"),
        "args": ({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        "module": (torch.nn.Linear(1, 1), "Linear"),
        "list": ([torch.zeros(1)], "it holds a list"),
        "nothing": ({"epoch": 3}, "it holds epoch"),
        "no tensors": ({"state_dict": {"a": 1}}, "no tensor by name"),
        "expanded": ({"a": expanded}, "a is not a dense tensor"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, (content, _) in objects.items():
        torch.save(content, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for name, (_, message) in {**contents, **objects}.items():
        with pytest.raises(WeightsError, match=message) as error:
            read_weights(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
    (tmp_path / "x.safetensors").write_bytes(good)
    with pytest.raises(WeightsError, match="no safetensors file"):
        read_weights(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="is a folder"):
        read_weights(tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        read_weights(tmp_path / "none.pth")
    assert not (tmp_path / "canary").exists()
