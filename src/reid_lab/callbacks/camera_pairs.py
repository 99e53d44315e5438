"""Accuracy by camera pair after a test."""

from __future__ import annotations

from pathlib import Path

from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.files.tables import write_csv
from reid_lab.retrieval import Evaluation
from reid_lab.retrieval.cameras import camera_pairs

MOST = 40  # cameras that a figure can show


def write_camera_pairs(path: Path, evaluation: Evaluation, exit: str, memory: float) -> None:
    """Rank-1 and mAP of an exit by query and gallery camera; no file where there is one camera."""
    e = evaluation.embeddings
    cameras = {*e.query.camids.tolist(), *e.gallery.camids.tolist()}
    if len(cameras) > MOST:
        rank_zero_warn(f"{path.name}: {len(cameras)} cameras, at most {MOST}; not written")
        return
    rows = camera_pairs(evaluation, exit, memory) if len(cameras) > 1 else []
    if rows:
        write_csv(path, rows)
