"""`import reid_lab.retrieval` costs torch and numpy only."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

HEAVY = {"torchmetrics", "faiss", "scipy", "matplotlib", "pydantic", "wandb", "botorch", "PIL"}
HEAVY |= {"pytorch_lightning", "lightning", "hydra", "omegaconf", "torchvision", "rich", "pandas"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("reid_lab.retrieval", HEAVY),
        ("reid_lab.budget.stopping, reid_lab.budget.anytime", HEAVY),
        ("reid_lab.runtime", (HEAVY | {"torch"}) - {"pydantic", "PIL"}),
        ("reid_lab.budget.stream", HEAVY | {"torch"}),
    ],
)
def test_an_import_stays_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


def test_the_metric_is_imported_when_used() -> None:
    code = (
        "import reid_lab.retrieval as r, sys; r.RankingMetric; print('torchmetrics' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
