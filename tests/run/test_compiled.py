"""A run with `compile=true`: its checkpoint is that of any run, and either kind resumes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reid_lab.checkpoint import load_model, read_checkpoint
from reid_lab.config.paths import last_checkpoint
from reid_lab.run.run import run
from tests.conftest import Compose
from tests.run.test_run import UNNEEDED, losses

pytestmark = pytest.mark.system


def test_trained_in_parts_compiled_or_not(composed: Compose, graphs: Any) -> None:
    few = ("model=classifier", "backbone=small", "backbone.width=4", "model.iterations=6")
    few = (*few, "trainer.log_every_n_steps=1", *(f"callbacks.{name}=null" for name in UNNEEDED))
    whole = composed(*few, run="whole")
    parts = (
        ("first", ("compile=true", "trainer.max_steps=2")),
        ("resumed", ("compile=true", "trainer.max_steps=4", "ckpt_path=last")),
        ("uncompiled", ("ckpt_path=last",)),
    )
    run(whole)
    assert graphs.frame_count == 0
    for name, overrides in parts:
        before = graphs.frame_count
        part = composed(*few, *overrides, run="parts")
        run(part)
        assert (graphs.frame_count > before) == (name != "uncompiled")
        kept = read_checkpoint(last_checkpoint(Path(part.run_dir)))
        assert set(kept["state_dict"]) == names_of(part.run_dir)
    assert losses(Path(part.run_dir)) == losses(Path(whole.run_dir))
    one, two = (read_checkpoint(last_checkpoint(Path(c.run_dir))) for c in (whole, part))
    assert all(torch.equal(one["state_dict"][k], v) for k, v in two["state_dict"].items())
    assert not any("_orig_mod" in key for key in two["state_dict"])


def names_of(folder: str) -> set[str]:
    """The names of the weights of a run's model, which is not compiled."""
    model = load_model(last_checkpoint(Path(folder)))
    assert all(module._compiled_call_impl is None for module in model.modules())
    return set(model.state_dict())
