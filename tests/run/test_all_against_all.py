"""A whole run in which each test image is a query."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reid_lab.callbacks.ranking import RankingError, RankingEvaluation
from reid_lab.config.build import build_data, build_trainer
from reid_lab.config.settings import check
from reid_lab.results.folder import results_of
from reid_lab.results.rows import EXITS, OPERATING_POINTS
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
    *("dataset.all_against_all=true", "dataset.val_identities=3", *TINY),
    *("model.iterations=2", "trainer.log_every_n_steps=1"),
    *("callbacks.stream.policies=[random,margin]", "callbacks.stream.points=3"),
    *(f"callbacks.{name}=null" for name in LEFT_OUT),
)


@pytest.mark.system
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


def test_re_ranking_is_an_error_before_the_first_batch(composed: Compose) -> None:
    cfg = composed("dataset.all_against_all=true", "callbacks.ranking.rerank=k_reciprocal")
    trainer = build_trainer(cfg)
    trainer.datamodule = build_data(cfg)  # type: ignore[attr-defined]
    (ranking,) = (c for c in trainer.callbacks if isinstance(c, RankingEvaluation))  # type: ignore[attr-defined]
    with pytest.raises(RankingError, match="dataset.all_against_all=false"):
        ranking.protocol(trainer)
