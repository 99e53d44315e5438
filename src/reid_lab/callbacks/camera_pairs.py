"""Accuracy by camera pair after a test."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.model import ReidModule
from reid_lab.results import write_csv
from reid_lab.retrieval import Evaluation
from reid_lab.retrieval.cameras import camera_pairs
from reid_lab.retrieval.space import GIGABYTE

MOST = 40  # cameras that a figure can show


class CameraPairs(AfterRanking):
    """`results/camera_pairs.csv`: Rank-1 and mAP of the last exit by query and gallery camera.

    With one camera there is nothing to tell, and no file.
    """

    memory: float = GIGABYTE

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.memory = ranking_of(trainer, self).memory

    def work(self, evaluation: Evaluation, model: ReidModule) -> None:
        e = evaluation.embeddings
        cameras = {*e.query.camids.tolist(), *e.gallery.camids.tolist()}
        if len(cameras) > MOST:
            rank_zero_warn(f"camera_pairs: {len(cameras)} cameras, at most {MOST}; left out")
            return
        rows = camera_pairs(evaluation, model.exit_names[-1], self.memory)
        if rows and len(cameras) > 1:
            write_csv(self.results / "camera_pairs.csv", rows)
