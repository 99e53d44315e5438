"""The mean over data sets, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from reid_lab.frontier.average import average
from reid_lab.frontier.points import FrontierError, Point
from reid_lab.frontier.published import published

ROW = Point("a", "pla", "exit", "embedding", rank1=0.6, mAP=0.4, mul_adds=100, gallery=9)


def test_each_data_set_has_the_same_weight() -> None:
    one = replace(ROW, mAP_min=0.3, mAP_max=0.6, seeds="0 1", runs="r0;r1", source="Table 1")
    two = replace(ROW, dataset="b", rank1=0.8, mAP=0.6, mAP_min=0.5, mAP_max=0.6, seeds="0")
    two = replace(two, mul_adds=104, runs="r2", source="Table 2")
    one, two = (replace(p, mAP_low=0.3, mAP_high=0.6) for p in (one, two))
    (mean,), notes = average([one, two])
    assert (mean.dataset, mean.method, mean.gallery, notes) == ("mean of a, b", "pla", 0, [])
    assert (mean.rank1, mean.mAP, mean.mul_adds) == pytest.approx((0.7, 0.5, 102))
    assert (mean.mAP_min, mean.mAP_max) == pytest.approx((0.4, 0.6))
    assert math.isnan(mean.rank1_min)
    assert math.isnan(mean.mAP_low) and math.isnan(mean.mAP_high)  # of other people
    assert (mean.seeds, mean.runs, mean.source) == ("0 1", "r0;r1;r2", "Table 1; Table 2")


def test_only_what_all_data_sets_have() -> None:
    lone = replace(ROW, method="mgn")
    stream = replace(ROW, kind="stream", point="margin", planned=5.0)
    points = [ROW, lone, stream, replace(ROW, dataset="b"), replace(stream, dataset="b", planned=6)]
    found, notes = average(points)
    assert [(p.kind, p.point) for p in found] == [("exit", "embedding")]
    assert notes == ["left out of the mean, not on all data sets: mgn, pla"]


def test_latencies_of_two_machines_are_not_averaged() -> None:
    points = [
        replace(ROW, dataset=data, method=method, latency_p50_ms=5.0, measured_on=machine)
        for method, machine in (("x", "here"), ("y", "here"), ("z", "there"))
        for data in "ab"
    ]
    found, notes = average(points)
    assert {p.method: math.isfinite(p.latency_p50_ms) for p in found} == {
        "x": True,
        "y": True,
        "z": False,
    }
    assert "left out there: z" in notes[0]


def test_the_mean_of_plas_table_2() -> None:
    """Figure 4: mAP of PLA and MGN over Market-1501, DukeMTMC and both sets of CUHK03."""
    sets = {"market1501": 19732, "dukemtmc": 17661, "cuhk03_new_detected": 5332}
    sets["cuhk03_new_labeled"] = 5328
    points = [replace(ROW, dataset=name) for name in sets]
    for name, gallery in sets.items():
        points += published(name, gallery)
    found = {p.method: p.mAP for p in average(points)[0] if p.kind == "published"}
    assert found["PLA"] == pytest.approx((0.836 + 0.725 + 0.632 + 0.675) / 4)
    assert found["MGN"] == pytest.approx((0.869 + 0.784 + 0.660 + 0.674) / 4)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([ROW], "two or more data sets, not a only"),
        ([ROW, replace(ROW, dataset="b", method="dare")], "no method was tested on all of a, b"),
    ],
)
def test_nothing_to_average(points: list[Point], message: str) -> None:
    with pytest.raises(FrontierError, match=message):
        average(points)
