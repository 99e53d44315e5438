"""Budgets in milliseconds and joules: measured, kept, and planned with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reid_lab.budget import profile
from reid_lab.budget.anytime import AnytimeModel, anytime_curve
from reid_lab.budget.overhead import cyclic_ids
from reid_lab.budget.policies import NOISE, Lookup, Policy
from reid_lab.budget.profile import ProfileError, measure_profile, read_costs, write_profile
from reid_lab.budget.steps import Steps
from reid_lab.budget.stream import mixed_shares, planned_rule, replay
from reid_lab.budget.sweep import budget_range, check_budgets, stream_sweep
from reid_lab.cost import latency
from reid_lab.cost.account import Counted, Effort, Subject
from reid_lab.cost.currency import ExitCosts
from reid_lab.files.stored import StoredFileError
from reid_lab.results.rows.cost import PROFILE, ProfileRow
from reid_lab.retrieval import Evaluation, evaluate
from tests.budget.people import people

CPU = torch.device("cpu")
MUL_ADDS = {"stage1": 10, "stage2": 20, "stage3": 30}
NETWORK = {1: (2.0, 3.0, 9.0), 32: (1.0, 2.0, 4.0)}  # ms of a query; not as its Mul-Adds
MATCHING = {1: (0.5, 0.4, 0.3), 32: (0.05, 0.05, 0.05)}


def rows(**changes: Any) -> list[ProfileRow]:
    here = profile.Host.of(CPU)
    found = [
        ProfileRow(
            exit=name,
            batch=batch,
            network_ms=NETWORK[batch][s],
            matching_ms=MATCHING[batch][s],
            network_joules=0.1 * NETWORK[batch][s],
            matching_joules=0.0,
            gallery=100,
            mul_adds=count,
            passes=5,
            machine=here.machine,
            device=here.device,
            threads=here.threads,
            allocator="",
            precision="32-true",
        )
        for batch in NETWORK
        for s, (name, count) in enumerate(MUL_ADDS.items())
    ]
    return [replace(row, **changes) for row in found]


def costs(tmp_path: Path, batch: int = 1, currency: Any = "latency", **wanted: Any) -> ExitCosts:
    path = tmp_path / "profile.csv"
    if not path.exists():
        write_profile(path, rows())
    return read_costs(path, currency, MUL_ADDS, CPU, batch, **wanted)


class Clock:
    """A clock and a meter (1 W) of a network whose work takes a fixed time an image."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def exits(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, ms in zip(MUL_ADDS, (1.0, 2.0, 3.0), strict=True):
            self.now += 1e-3 * ms * len(images)
            yield name, torch.ones(len(images), 4)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("latency", "energy"):
        monkeypatch.setattr(f"reid_lab.cost.{module}.perf_counter", clock)
    search = Lookup.features

    def features(self: Any, given: Tensor, *words: Any) -> Any:
        clock.now += 5e-4 * len(given)
        return search(self, given, *words)

    monkeypatch.setattr(Lookup, "features", features)
    return clock


def test_network_and_matching_are_measured_apart(clock: Clock) -> None:
    counted = {name: Counted(count, 4) for name, count in MUL_ADDS.items()}
    subject = Subject("exit", clock.exits, lambda n: torch.zeros(n, 3, 8, 4), counted)
    effort = Effort(repeats=3, seconds=0.2)
    found = measure_profile(subject, effort, [1, 8], 30, "32-true", meter=clock)
    assert [(row.exit, row.batch) for row in found] == [(n, b) for b in (1, 8) for n in MUL_ADDS]
    for row, ms in zip(found, 2 * (1.0, 3.0, 6.0), strict=True):
        assert row.network_ms == pytest.approx(ms)
        assert row.matching_ms == pytest.approx(0.5)
        assert row.network_joules == pytest.approx(1e-3 * ms)
        assert row.matching_joules == pytest.approx(5e-4)
        assert (row.gallery, row.mul_adds) == (30, MUL_ADDS[row.exit])
        assert np.isnan(row.overhead_ms)  # no module that could exit early
    assert latency.WARM_UP + 3 > found[0].passes >= 1


def test_the_overhead_is_what_a_stream_takes_beside_its_stages_and_searches(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Network(torch.nn.Module):
        exit_names = stream_exits = tuple(MUL_ADDS)
        shared_exit = None

        def cropped(self, images: Tensor) -> Tensor:
            return images

        def step(self, exit: str, state: Any) -> Any:
            clock.now += 1e-3 * (1 + self.exit_names.index(exit)) * len(state[0])
            return state, state[0].flatten(1)[:, :4]

    advance = Steps.advance

    def slow(self: Steps, exit: str, state: Any) -> Any:
        clock.now += 2e-4 * len(state[0])
        return advance(self, exit, state)

    monkeypatch.setattr(Steps, "advance", slow)
    counted = {name: Counted(count, 4) for name, count in MUL_ADDS.items()}
    held: list[int] = []

    def images(count: int) -> Tensor:
        held.append(count)
        return torch.rand(count, 3, 8, 4)

    subject = Subject("exit", clock.exits, images, counted, Network())
    found = measure_profile(subject, Effort(repeats=3, seconds=0.2), [1, 16], 30, meter=clock)
    assert [row.overhead_ms for row in found] == pytest.approx([0.2] * 6)
    assert max(held) == 64  # not all 128 images of a stream


def test_a_machine_without_a_meter_has_no_joules(clock: Clock, monkeypatch: Any) -> None:
    monkeypatch.setattr(profile, "find_meter", lambda _: None)
    subject = Subject(
        "exit", clock.exits, lambda n: torch.zeros(n, 3, 8, 4), {"stage1": Counted(10, 4)}
    )
    (row,) = measure_profile(subject, Effort(repeats=1, seconds=0.01), [1], 30)
    assert np.isnan([row.network_joules, row.matching_joules]).all()


def test_a_file_keeps_other_machines_and_replaces_its_own(tmp_path: Path) -> None:
    path = tmp_path / "profile.csv"
    write_profile(path, rows(machine="elsewhere"))
    write_profile(path, rows())
    write_profile(path, rows(matching_ms=1.0))
    kept = PROFILE.read(path)
    assert len(kept) == 12
    assert [r.machine == "elsewhere" for r in kept] == [True] * 6 + [False] * 6
    assert all(r.matching_ms == 1.0 for r in kept[6:])
    assert costs(tmp_path, 32).matching.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network_ms": 0.0}, "row 1: network_ms is 0, not above 0"),
        ({"network_ms": math.nan}, "row 1: network_ms is nan, not above 0"),
        ({"matching_ms": math.nan}, "row 1: matching_ms is nan, not a number"),
        ({"matching_ms": -1.0}, "matching_ms is -1.0, not from 0"),
        ({"batch": 0}, "row 1: batch and gallery are at least 1"),
    ],
)
def test_a_value_that_is_no_cost(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    PROFILE.write(tmp_path / "profile.csv", rows(**values))
    with pytest.raises(StoredFileError, match=message):
        PROFILE.read(tmp_path / "profile.csv")


def test_a_query_pays_for_the_searches_that_its_policy_needs(tmp_path: Path) -> None:
    found = costs(tmp_path)
    assert found.unit == "ms"
    np.testing.assert_allclose(found.totals(decides=False), [2.5, 3.4, 9.3])
    np.testing.assert_allclose(found.totals(decides=True), [2.5, 3.9, 10.2])
    two = found.select(["stage1", "stage3"])  # the gallery of stage2 is not searched
    np.testing.assert_allclose(two.totals(decides=True), [2.5, 9.8])
    slower = replace(found, overhead=0.1)  # at each exit that is reached
    np.testing.assert_allclose(slower.totals(decides=False), [2.6, 3.6, 9.6])
    np.testing.assert_allclose(slower.totals(decides=True), [2.6, 4.1, 10.5])
    np.testing.assert_allclose(slower.select(["stage1", "stage3"]).totals(True), [2.6, 10.0])
    counted = ExitCosts.of_mul_adds(MUL_ADDS)
    assert counted.totals(decides=True).tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("change", "wanted", "message"),
    [
        ({"machine": "elsewhere"}, {}, r"measured on elsewhere \(.*, this is .*: measure one here"),
        ({"threads": 77}, {}, "threads=77"),
        ({"mul_adds": 5}, {}, "another network or image size, exit 'stage1' has 10 Mul-Adds"),
        ({"gallery": 99}, {"gallery": 100}, "has gallery 99 on this machine, 100 is needed"),
        ({"batch": 8}, {"batch": 32}, "has batch 8 .*32 is needed.*--batch-size 32"),
        ({"precision": "bf16"}, {"precision": "32-true"}, "precision bf16"),
        ({"network_joules": np.nan}, {"currency": "energy"}, "no energy.*no meter.*cost=latency"),
    ],
)
def test_a_profile_that_does_not_fit_says_how_to_measure_one(
    tmp_path: Path, change: dict[str, Any], wanted: dict[str, Any], message: str
) -> None:
    write_profile(tmp_path / "profile.csv", rows(**change))
    with pytest.raises(ProfileError, match=message):
        costs(tmp_path, **wanted)


def test_no_profile_says_how_to_measure_one(tmp_path: Path) -> None:
    wanted = r"budgets in J \(cost=energy\) .* --gallery 50 --profile .*profile.csv"
    with pytest.raises(ProfileError, match=wanted):
        read_costs(tmp_path / "profile.csv", "energy", MUL_ADDS, CPU, gallery=50)


def test_the_overhead_counts_in_milliseconds_where_the_file_has_it(tmp_path: Path) -> None:
    assert costs(tmp_path).overhead == 0.0  # as in older files
    write_profile(tmp_path / "profile.csv", rows(overhead_ms=0.25))
    assert costs(tmp_path).overhead == 0.25
    assert costs(tmp_path, currency="energy").overhead == 0.0


def test_of_two_galleries_one_has_to_be_named(tmp_path: Path) -> None:
    write_profile(tmp_path / "profile.csv", [*rows(), *rows(gallery=7)])
    with pytest.raises(ProfileError, match="has gallery 7, 100 on this machine, one is needed"):
        costs(tmp_path)
    assert costs(tmp_path, gallery=7).exits == tuple(MUL_ADDS)


@pytest.mark.parametrize(("old", "new"), [("2.0", "-2.0"), ("2.0", ""), (",100,", ",0,")])
def test_a_malformed_profile_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "profile.csv"
    write_profile(path, rows())
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StoredFileError, match=r"profile.csv: row \d"):
        costs(tmp_path)


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("policy", ["margin", "geometric"])
def test_steered_streams_spend_what_was_planned(tmp_path: Path, batch: int, policy: Policy) -> None:
    """In profiled milliseconds, within 3%: 20 seeds at 10 budgets."""
    own, decides, queries = costs(tmp_path, batch), policy not in NOISE, 400
    totals = own.totals(decides)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        hard = rng.normal(size=queries)
        confidences = np.stack([rng.normal(size=queries) - hard for _ in totals])
        for budget in np.linspace(totals[0], totals[-1], 12)[1:-1]:
            exits = replay(
                confidences if decides else None,
                planned_rule(own, budget, decides),
                np.arange(queries),
                len(totals),
                seed,
            )
            assert totals[exits].mean() == pytest.approx(budget, rel=0.03)


@pytest.mark.parametrize("count", [1, 2, 300, 20_000])
def test_a_synthetic_gallery_has_as_many_images_of_a_person_as_real_ones(count: int) -> None:
    ids = cyclic_ids(count)
    assert len(ids) == count
    people, images = np.unique(ids.pids.numpy(), return_counts=True)
    assert len(people) == min(count, max(2, count // 20)) and images.max() <= 20
    if count >= 300:
        cameras = [set(ids.camids[ids.pids == pid].tolist()) for pid in people[:50]]
        assert all(found == {*range(6)} for found in cameras)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(people(60))


@pytest.mark.parametrize("currency", ["latency", "energy"])
def test_a_sweep_plans_in_the_currency(
    tmp_path: Path, evaluation: Evaluation, currency: Any
) -> None:
    own, policies = costs(tmp_path, 32, currency), list[Policy](["random", "margin"])
    low, high = budget_range(own, policies)
    swept = stream_sweep(
        evaluation,
        list(MUL_ADDS),
        policies,
        np.linspace(low, high, 5).tolist(),
        thresholds=["steered"],
        measured=own,
    )
    for row in swept.rows:
        assert row["cost"] == currency
        assert row["policy"] in policies and row["thresholds"] == "steered"
        assert row["spent"] == pytest.approx(row["budget"], rel=0.03)
        shares = np.array([row[f"share_{name}"] for name in MUL_ADDS])
        decides = row["policy"] == "margin"
        assert row["spent"] == pytest.approx(shares @ own.totals(decides))
        assert row["realised"] == pytest.approx(shares @ [10, 20, 30])
        assert row["planned"] == pytest.approx(row["realised"], rel=0.05)
    for row in swept.policies:
        assert row["deviation"] < 0.03


def test_a_policy_is_compared_with_random_exits_that_spend_as_much(
    tmp_path: Path, evaluation: Evaluation
) -> None:
    """Searches included: random exits search once, and afford later exits for what is left."""
    own = costs(tmp_path, 32)
    own = replace(own, matching=20 * own.matching)
    (row,) = stream_sweep(
        evaluation, list(MUL_ADDS), ["margin"], [4.5], thresholds=["steered"], measured=own
    ).rows
    shares = mixed_shares(own.totals(decides=False), row["spent"])
    expected = shares @ [evaluation.rankings[name].rank1 for name in MUL_ADDS]
    assert row["rank1"] - row["rank1_gain"] == pytest.approx(expected)


def test_mul_adds_are_planned_as_before(evaluation: Evaluation) -> None:
    swept = stream_sweep(evaluation, list(MUL_ADDS), ["margin"], [17.0])
    assert "spent" not in swept.rows[0] and swept.rows[0]["planned"] == 17.0


def test_budgets_beyond_the_exits_name_the_unit(tmp_path: Path) -> None:
    own = costs(tmp_path)
    with pytest.raises(ValueError, match=r"of 10 ms cannot be met: the exits cost 2.5 to 9.3"):
        check_budgets(own, ["margin", "random"], [3.0, 10.0])
    check_budgets(own, ["margin"], [10.0])  # which also pays for its searches
    with pytest.raises(ValueError, match="of 2 J cannot be met"):
        planned_rule(costs(tmp_path, currency="energy"), 2.0)


def test_the_anytime_curve_in_milliseconds(tmp_path: Path, evaluation: Evaluation) -> None:
    budgets = [1.0, 2.5, 9.0]
    curve = anytime_curve(evaluation.rankings, MUL_ADDS, budgets, costs(tmp_path))
    assert [row["exit"] for row in curve] == ["", "stage1", "stage3"]
    assert [row["mul_adds"] for row in curve] == [0, 10, 30]
    assert [row["budget"] for row in curve] == budgets
    assert {row["cost"] for row in curve} == {"latency"}


def test_an_anytime_model_stops_at_a_budget(tmp_path: Path) -> None:
    class Network(torch.nn.Module):
        exit_names = tuple(MUL_ADDS)

        def cropped(self, images: Tensor) -> Tensor:
            return images

        def step(self, exit: str, state: Any) -> Any:
            return state, state[0].flatten(1)

    images = torch.zeros(2, 3, 8, 4)
    runner = AnytimeModel(Network(), measured=costs(tmp_path))  # type: ignore[arg-type]
    reached = [runner.embed(images, budget=ms).exit for ms in (0.1, 2.0, 3.0, 8.9, 9.0)]
    assert reached == ["stage1", "stage1", "stage2", "stage2", "stage3"]
    with pytest.raises(ValueError, match="measured=read_costs"):
        AnytimeModel(Network()).embed(images, budget=1.0)  # type: ignore[arg-type]
