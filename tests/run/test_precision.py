"""A trainer's precision and the processor."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch

from reid_lab.run.messages import slow_precision


@pytest.mark.parametrize(
    ("precision", "capabilities", "noted"),
    [
        ("bf16-mixed", {"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ("bf16-mixed", {"avx2": True, "avx512_bf16": True}, False),
        ("32-true", {"avx2": True}, False),
    ],
)
def test_bfloat16_is_noted_where_the_cpu_has_no_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, capabilities: dict[str, bool], noted: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    options = {"logger": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", precision=precision, **options)
    notes = slow_precision(trainer)
    assert bool(notes) == noted
    if noted:
        assert "trainer.precision=32-true" in notes[0]
