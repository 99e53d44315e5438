"""Which stages are worth a head."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_lab.backbone import SmallResNet
from reid_lab.config.build import build_data
from reid_lab.errors import UserError
from reid_lab.output.console import stdout
from reid_lab.profiling import suggest
from reid_lab.profiling.suggest import StageWorth
from tests.commands import cost as main
from tests.conftest import Compose

COSTS = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([0.1, 0.2, 0.6], [0.2, 0.4, 0.2]),  # no answer and the last, twice; the second alone
        ([0.5, 0.4, 0.6], [0.2, 0.55, 0.5]),  # the second is worse than the first
    ],
)
def test_what_the_others_reach_at_the_same_cost(gains: list[float], expected: list[float]) -> None:
    found = [
        suggest.mixture(np.delete(COSTS, s), np.delete(gains, s), float(COSTS[s])) for s in range(3)
    ]
    assert found == pytest.approx(expected)


def stage_worths(gains: list[float], budgets: suggest.Budgets | None) -> list[StageWorth]:
    """Worths of stages of 1, 2 and 3 ms, and as many million Mul-Adds."""
    names = ["a", "b", "c"]
    rows = [
        SimpleNamespace(exit=n, mul_adds=int(1e6 * c), network_ms=c)
        for n, c in zip(names, COSTS, strict=True)
    ]
    rankings = {n: SimpleNamespace(rank1=g, mAP=g) for n, g in zip(names, gains, strict=True)}
    return suggest.worths(rows, SimpleNamespace(rankings=rankings), budgets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gains", "low", "high", "expected"),
    [
        ([0.3, 0.5, 0.6], 1.2, 1.8, "ab"),  # between the first two
        ([0.3, 0.5, 0.6], 2.1, 9.0, "bc"),
        ([0.3, 0.5, 0.6], 0.5, 1.0, "a"),
        ([0.3, 0.5, 0.6], 2.0, 2.0, "b"),
        ([0.4, 0.4, 0.6], 1.5, 2.5, "ac"),  # the second is below the line of the others
        ([0.3, 0.5, 0.2], 2.0, 9.0, "b"),  # the last is worse and dearer
    ],
)
def test_a_range_of_budgets(gains: list[float], low: float, high: float, expected: str) -> None:
    """Equal to leaving out each stage at many budgets of the range."""
    for currency, scale in (("latency", 1.0), ("mul_adds", 1e6)):
        budgets = suggest.Budgets(currency, low * scale, high * scale)  # type: ignore[arg-type]
        found = stage_worths(gains, budgets)
        assert "".join(stage.name for stage in found if stage.worth_a_head) == expected
    naive = ""
    for s, name in enumerate("abc"):
        left = np.delete(COSTS, s), np.delete(gains, s)
        for budget in np.linspace(low, high, 97):
            more = suggest.mixture(COSTS, np.array(gains), budget)
            if more > suggest.mixture(*left, budget) + 1e-9:
                naive += name
                break
    assert naive == expected


def test_without_a_range_each_stage_has_its_own_cost() -> None:
    found = stage_worths([0.5, 0.4, 0.6], None)
    assert [stage.worth_a_head for stage in found] == [True, False, True]
    assert [stage.budget for stage in found] == [1, 2, 3]


def test_a_range_below_the_first_stage_is_refused() -> None:
    with pytest.raises(UserError, match="budgets end at 0.5 ms, the first stage costs 1") as error:
        stage_worths([0.1, 0.2, 0.3], suggest.Budgets("latency", 0.1, 0.5))
    assert error.value.command_text.startswith("--budget-ms ends at 0.5 ms, ")


def test_features_are_the_pooled_maps_of_each_stage() -> None:
    backbone, images = SmallResNet(4).eval(), torch.randn(2, 3, 32, 16)
    found = dict(suggest.stage_features(backbone, images))
    assert [rows.shape for rows in found.values()] == [(2, c) for c in backbone.channels]
    with torch.no_grad():
        torch.testing.assert_close([*found.values()][-1], backbone(images).mean((2, 3)))


def test_held_out_people_are_ranked(composed: Compose) -> None:
    cfg = composed("backbone=small", "backbone.width=4")
    data = suggest.held_out(cfg, trained=False)
    assert data.val_identities == 4  # half of the training people
    found = suggest.evaluate_stages(SmallResNet(4).eval(), data, torch.device("cpu"))
    people = {*data.benchmark.train.pids.tolist()}
    assert {*found.embeddings.query.pids.tolist()} <= people
    assert list(found.rankings) == ["stage1", "stage2", "stage3", "stage4"]
    counts = [*found.mul_adds.values()]
    assert counts == sorted(counts) and counts[0] > 0
    larger = replace(data.transforms, enlarge=2, test_crop="centre")
    data.transforms = replace(larger, enlarge=1)
    same = suggest.evaluate_stages(SmallResNet(4).eval(), data, torch.device("cpu"))
    data.transforms = larger  # the network sees a crop
    found = suggest.evaluate_stages(SmallResNet(4).eval(), data, torch.device("cpu"))
    assert found.mul_adds == same.mul_adds


def test_a_trained_network_needs_people_whom_it_has_not_seen(composed: Compose) -> None:
    with pytest.raises(UserError, match="val_identities=0: the checkpoint was trained on all"):
        suggest.held_out(composed(), trained=True)
    cfg = composed("dataset.val_identities=3")
    assert suggest.held_out(cfg, trained=True).val_identities == build_data(cfg).val_identities


def test_the_command_prints_a_row_a_stage(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stdout, "_width", 200)
    monkeypatch.setattr(suggest, "composed", lambda _: composed("backbone=small"))
    words = ["--repeats=1", "--seconds=0.01", "--device=cpu", "--allocator=default"]
    assert main(["--suggest-exits", *words]) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith("stage")]
    assert [row[0] for row in rows] == ["stage1", "stage2", "stage3", "stage4"]
    worth = ", ".join(row[0] for row in rows if row[-1] == "yes")
    assert f"worth a head: {worth}\n" in printed
    assert "not trained to re-identify" in printed
    budgets = ["--budget-mul-adds", "1e3", "1e12"]
    assert main(["--suggest-exits", *words, *budgets]) == 0
    assert "worth a head at 1,000 to 1e+12 Mul-Adds: " in capsys.readouterr().out
    assert main(["--suggest-exits", "--csv=x"]) == 2
    assert main(["--suggest-exits", "--budget-ms", "3", "2"]) == 2
    assert main(["--budget-ms", "2", "3"]) == 2
