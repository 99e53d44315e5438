"""Costs of each exit on this machine, after a test."""

from __future__ import annotations

from typing import Any

from reid_lab.callbacks.after_ranking import AfterRanking, ranking_of
from reid_lab.cost.account import Counted, Effort, account, network_subject, reference_subject
from reid_lab.dataset.datamodule import data_of
from reid_lab.model import ReidModule
from reid_lab.results import Results
from reid_lab.results.rows.cost import COST
from reid_lab.retrieval import Evaluation
from reid_lab.types import Points, Seconds, TimedBatchSize


class CostAccount(AfterRanking):
    """Adds `cost.csv`: one row per exit and reference, in the precision of the test.

    Columns are Mul-Adds (those of exits.csv), parameters, memory, bytes of an embedding and of this
    test's gallery, latency of one image, images per second, energy if the platform measures it; and
    the device, threads and allocator. Memory and times are of the network, without reading images
    and without the projection of `callbacks.ranking.pca`.

    Args:
        batch: batch size for the throughput; latency is of one image.
        repeats: passes of each kind, after a warm-up.
        seconds: time limit for the network, and again for each reference. At least two passes of
            one image and of a batch are run.
    """

    def __init__(
        self, batch: TimedBatchSize = 16, repeats: Points = 20, seconds: Seconds = 2.0
    ) -> None:
        super().__init__()
        self.effort = Effort(batch, repeats, seconds)

    def add(self, results: Results, evaluation: Evaluation, model: ReidModule) -> None:
        trainer: Any = model.trainer
        transforms = data_of(trainer).transforms
        size = transforms.size
        counted = {
            name: Counted(e.mul_adds, e.query.shape[1])
            for name, e in evaluation.embeddings.exits.items()
        }
        precision = trainer.precision_plugin
        of_network = {name: counted[name] for name in model.exit_names}
        subjects = [
            network_subject(
                model, of_network, size, precision.test_step_context, precision.convert_input
            )
        ]
        subjects += [
            reference_subject(name, features, counted[name], size, model.device)
            for name, features in ranking_of(trainer, self).references.items()
        ]
        gallery = len(evaluation.embeddings.gallery)
        rows = [
            row | {"precision": trainer.precision if subject.kind == "exit" else ""}
            for subject in subjects
            for row in account(subject, self.effort, transforms.test_views, gallery)
        ]
        results.cost = COST.of(rows)
