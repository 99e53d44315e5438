"""`import reid_lab.retrieval` costs torch and numpy only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid_lab.gallery_format.card import Card
from reid_lab.runtime.gallery import Gallery

pytestmark = pytest.mark.system

HEAVY = {"torchmetrics", "faiss", "scipy", "matplotlib", "pydantic", "wandb", "botorch", "PIL"}
HEAVY |= {"pytorch_lightning", "lightning", "hydra", "omegaconf", "torchvision", "rich", "pandas"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("reid_lab.retrieval, reid_lab.budget.stopping, reid_lab.budget.anytime", HEAVY),
        ("reid_lab.runtime", (HEAVY | {"torch"}) - {"pydantic", "PIL"}),
        ("reid_lab.budget.stream", HEAVY | {"torch"}),
    ],
)
def test_an_import_stays_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    if "torch" not in absent:  # the metric is imported when it is used
        code += "; reid_lab.retrieval.RankingMetric; print('torchmetrics' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, *metric = done.stdout.splitlines()
    assert not absent & set(found.split())
    assert metric == ["True"] * ("torch" not in absent)


def test_what_a_gallery_stores_needs_no_torch(tmp_path: Path) -> None:
    """Listed and removed; the same process would have imported it."""
    card = Card("m", 4, "late")
    card.write(tmp_path)
    gallery = Gallery.open_rows(tmp_path)
    gallery.add(np.eye(3, 4, dtype=np.float32), list("abc"), ["Ann", "Bob", "Ann"])
    words = [["people"], ["info"], ["remove", "--pid", "Ann"]]
    code = (
        "import sys; from reid_lab.cli.main import main\n"
        f"for action, *more in {words}:\n"
        f"    assert main(['gallery', action, {str(tmp_path)!r}, *more]) == 0\n"
        "print(*{m.partition('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed = done.stdout.splitlines()
    assert "2 images (person Ann) removed; 1 image now" in done.stdout
    assert not {"torch", "pytorch_lightning", "faiss"} & set(printed[-1].split())
