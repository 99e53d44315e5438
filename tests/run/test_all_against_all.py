"""A whole run in which each test image is a query."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reid_lab.callbacks.ranking import RankingError, RankingEvaluation
from reid_lab.checkpoint import load_model
from reid_lab.config.build import build_data, build_trainer
from reid_lab.config.paths import last_checkpoint
from reid_lab.config.settings import check
from reid_lab.dataset import ReidDataModule
from reid_lab.gallery.embedder import embed
from reid_lab.results.folder import results_of
from reid_lab.results.rows.accuracy import EXITS
from reid_lab.results.rows.verification import OPERATING_POINTS
from reid_lab.results.summary import Summary
from reid_lab.run.run import run
from tests.conftest import TINY, Compose

LEFT_OUT = (
    "cost",
    "ranked_lists",
    "attention",
    "throughput",
    "anytime",
    "dimensions",
    "conditions",
)
FEW = (
    *("dataset.all_against_all=true", "dataset.val_identities=5", *TINY),
    *("model.iterations=2", "trainer.log_every_n_steps=1"),
    *("callbacks.stream.policies=[random,margin]", "callbacks.stream.points=3"),
    *(f"callbacks.{name}=null" for name in LEFT_OUT),
)


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:verification:UserWarning")
def test_every_image_of_a_person_is_a_query(composed: Compose) -> None:
    cfg = composed(*FEW)
    data = check(cfg).data
    run(cfg)
    results = results_of(Path(cfg.run_dir))
    images = int((data.benchmark.gallery.pids > 0).sum())
    for row in EXITS.read(results / EXITS.file):
        assert row.queries + row.skipped == images
    summary = Summary.read(results)
    assert summary.protocol is not None and summary.protocol["hidden"] == "itself"
    assert "all against all" in json.dumps(summary.notes)
    assert (results / "stream.csv").is_file()  # by margins without the query itself
    assert OPERATING_POINTS.read(results / OPERATING_POINTS.file)
    _check_thresholds_of_held_out_people(Path(cfg.run_dir), data)


def _check_thresholds_of_held_out_people(folder: Path, data: ReidDataModule) -> None:
    """They are in the checkpoint, and those of a loop over the people's images."""
    model = load_model(last_checkpoint(folder))
    split = data.eval_split("val")
    paths = sorted({split.path(i) for i in range(len(split))})
    pid = {split.path(i): int(split.pids[i]) for i in range(len(split))}
    pids = np.array([pid[path] for path in paths])
    rows = embed(model, paths, device="cpu")["fusion"].double().numpy()
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    away = np.where(pids[:, None] == pids[None], np.inf, distances).min(1)
    searches, pairs = model.accept_thresholds["fusion"]["euclidean"]
    assert searches.source == f"{data.benchmark.name}, held out from training"
    assert (searches.people, searches.trials, searches.images) == (5, len(pids), len(pids))
    for at in searches.thresholds:
        allowed = int(at.false_accept_rate * len(away) + 1e-9)
        assert at.distance == pytest.approx(np.sort(away)[allowed], rel=1e-4)
    assert pairs.trials == (pids[:, None] != pids[None]).sum()
    assert model.accept_thresholds.keys() == {*model.exit_names}
    assert model.accept_thresholds["fusion"].keys() == {"euclidean", "cosine"}


def test_re_ranking_is_an_error_before_the_first_batch(composed: Compose) -> None:
    cfg = composed("dataset.all_against_all=true", "callbacks.ranking.rerank=k_reciprocal")
    trainer = build_trainer(cfg)
    trainer.datamodule = build_data(cfg)  # type: ignore[attr-defined]
    (ranking,) = (c for c in trainer.callbacks if isinstance(c, RankingEvaluation))  # type: ignore[attr-defined]
    with pytest.raises(RankingError, match="dataset.all_against_all=false"):
        ranking.protocol(trainer)
