"""The same model has the same fingerprint, whatever else its checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reid_lab.errors import UserError
from reid_lab.fingerprint import fingerprint

WEIGHTS = {
    "head.weight": torch.arange(6.0).view(2, 3),
    "head.bias": torch.zeros(2),
    "seen": torch.tensor(7),
}
CONFIG = {"_target_": "reid_lab.model.DaRe", "dim": 8, "backbone": {"width": 4}}


def saved(folder: Path, weights: Any = WEIGHTS, config: Any = CONFIG, **more: Any) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.ckpt"
    kept = {"model": config, "image": [64, 32]}
    torch.save({"state_dict": weights, "hyper_parameters": kept, **more}, path)
    return fingerprint(path)


def test_what_has_no_say(tmp_path: Path) -> None:
    first = saved(tmp_path)
    assert len(first) == 64 and int(first, 16)
    turned = {name: WEIGHTS[name] for name in reversed(WEIGHTS)}
    strided = {**WEIGHTS, "head.weight": WEIGHTS["head.weight"].T.contiguous().T}
    others = [
        saved(tmp_path, optimizer_states=[{"step": torch.ones(3)}], global_step=9),
        saved(tmp_path, turned, dict(reversed(CONFIG.items()))),
        saved(tmp_path, strided),
        fingerprint(str(tmp_path / "0.ckpt")),
    ]
    assert set(others) == {first}


def test_what_has_a_say(tmp_path: Path) -> None:
    weight = WEIGHTS["head.weight"]
    nudged = weight.clone()
    nudged[1, 2] = torch.nextafter(nudged[1, 2], torch.tensor(9.0))
    prints = [
        saved(tmp_path),
        saved(tmp_path, {**WEIGHTS, "head.weight": nudged}),
        saved(tmp_path, {**WEIGHTS, "head.weight": weight.view(3, 2)}),
        saved(tmp_path, {**WEIGHTS, "head.weight": weight.view(torch.int32)}),
        saved(tmp_path, {**WEIGHTS, "head.weight": weight.bfloat16()}),
        saved(tmp_path, {("tail" if k == "seen" else k): v for k, v in WEIGHTS.items()}),
        saved(tmp_path, {k: v for k, v in WEIGHTS.items() if k != "seen"}),
        saved(tmp_path, config={**CONFIG, "backbone": {"width": 5}}),
    ]
    assert len(set(prints)) == len(prints)


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    torch.save([1], tmp_path / "list.ckpt")
    whole = (tmp_path / "foreign.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    messages = {
        "nowhere.ckpt": "does not exist: give a run's",
        "text.ckpt": "cannot be read",
        "half.ckpt": "cannot be read",
        "foreign.ckpt": "does not say which model",
        "list.ckpt": "does not say which model",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message) as error:
            fingerprint(tmp_path / name)
        assert name in str(error.value)
