"""Algorithm 1 without a network: the schedule, the objective, the process, the state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reid_lab.search import Ranges, Schedule, Search, Setting
from reid_lab.search.bayes import Surrogate
from reid_lab.search.search import objective_of

PLAN = Schedule(rounds=3, settings=2, explore=2, exploit=3, epoch=4)
RANGES = Ranges(k=(1, 4), p=(1, 9))


def walk(schedule: Schedule) -> list[tuple[int, int, bool, int, int]]:
    """(round, index, exploiting, step, batch of the sampler) of every batch, by nested loops."""
    found, base = [], 0
    for number in range(schedule.rounds):
        phases = [(i, False, schedule.explore) for i in range(schedule.settings + number)]
        phases.append((schedule.settings + number, True, schedule.exploit))
        for index, exploiting, epochs in phases:
            steps = range(epochs * schedule.epoch)
            found += [(number, index, exploiting, step, base + step) for step in steps]
        base += schedule.exploit * schedule.epoch
    return found


@pytest.mark.parametrize("schedule", [PLAN, Schedule(1, 1, 1, 1, 1), Schedule(2, 5, 3, 1, 2)])
def test_every_batch_has_its_place(schedule: Schedule) -> None:
    expected = walk(schedule)
    assert schedule.total == len(expected)
    for t, (number, index, exploiting, step, batch) in enumerate(expected):
        position = schedule.at(t)
        assert (position.round, position.slot, position.exploiting, position.step) == (
            number,
            index,
            exploiting,
            step,
        )
        assert position.start == t - step
        assert schedule.data(t) == batch
        following = expected[t + 1][:2] if t + 1 < len(expected) else None
        assert position.last == (following != (number, index))


def test_rounds_without_explorations() -> None:
    """Each exploits a setting drawn at random, on the batches that a search would take."""
    schedule = Schedule(rounds=3, settings=2, explore=2, exploit=3, epoch=4, exploring=False)
    assert schedule.total == 3 * 3 * 4
    assert [schedule.data(t) for t in range(schedule.total)] == list(range(schedule.total))
    search = run(Search(schedule, RANGES, drop=0.15, candidates=20), schedule.total)
    drawn = [tuple(setting) for setting in RANGES.draw(3, np.random.default_rng([0, 0]))]
    assert [(t.weight, t.margin, t.k, t.p) for t in search.trials] == drawn
    assert [(t.round, t.phase) for t in search.trials] == [(r, "exploit") for r in (1, 2, 3)]
    assert all(math.isfinite(t.objective) and math.isfinite(t.loss) for t in search.trials)


def test_the_papers_lengths() -> None:
    schedule = Schedule(rounds=10, settings=10, explore=20, exploit=300, epoch=102)
    assert schedule.total == 102 * (3000 + 20 * sum(range(10, 20)))


def test_equation_9() -> None:
    losses = [4.0, 3.0, 2.0, 1.0]
    assert objective_of(losses, 0.15) == pytest.approx(abs((3.5 - 1.5) / 3.5 - 0.15))
    assert objective_of([2.0, 1.7], 0.15) == pytest.approx(0)
    assert objective_of([1.0, 2.0], 0.15) == pytest.approx(1.15)  # it rose
    assert objective_of([0.0, 0.0], 0.15) == pytest.approx(0.15)
    assert objective_of([3.0, 2.0, 1.0], 0.0) == pytest.approx((3 - 1.5) / 3)


def test_settings_fill_their_ranges() -> None:
    drawn = RANGES.draw(2000, np.random.default_rng(0))
    assert {w.k for w in drawn} == {1, 2, 3, 4}
    assert {w.p for w in drawn} == set(range(1, 10))
    for name in ("triplet_weight", "margin"):
        low, high = getattr(RANGES, name)
        values = [getattr(w, name) for w in drawn]
        width = high - low
        assert low <= min(values) < low + 0.01 * width
        assert high - 0.01 * width < max(values) <= high


def test_a_range_the_wrong_way_round() -> None:
    with pytest.raises(ValueError, match=r"k=\[8, 1\]: expected \[lowest, highest\]"):
        Ranges(k=(8, 1))


@pytest.fixture(scope="module")
def process() -> Surrogate:
    return Surrogate(RANGES, *zip(*measured(12), strict=True))


def measured(count: int) -> list[tuple[Setting, float]]:
    drawn = RANGES.draw(count, np.random.default_rng(1))
    return [(w, abs(0.2 * w.triplet_weight + 0.1 * w.k - 0.3) + 0.5 * w.margin) for w in drawn]


def test_expected_improvement_is_equation_8(process: Surrogate) -> None:
    best = min(f for _, f in measured(12))
    drawn = RANGES.draw(50, np.random.default_rng(2))
    predictions = process.predict(drawn)
    for mean, deviation, improvement in predictions:
        z = (best - mean) / deviation  # the paper prints the sign for maximisation
        cdf, pdf = (1 + math.erf(z / 2**0.5)) / 2, math.exp(-z * z / 2) / (2 * math.pi) ** 0.5
        assert improvement == pytest.approx(deviation * (z * cdf + pdf), rel=1e-4, abs=1e-9)
    largest = max(range(50), key=lambda i: predictions[i].improvement)
    assert process.best(drawn) == drawn[largest]


def test_the_process_learns_what_it_saw(process: Surrogate) -> None:
    settings, objectives = zip(*measured(12), strict=True)
    means = [p.mean for p in process.predict(settings)]
    assert np.corrcoef(means, objectives)[0, 1] > 0.9


def test_parts_of_a_single_value_are_no_dimension() -> None:
    """The process is that of the other parts alone, whatever the value."""
    found = []
    for value in (0.5, 1.0):
        ranges = Ranges((value, value), RANGES.margin, RANGES.k, RANGES.p)
        settings = [Setting(value, *w[1:]) for w, _ in measured(6)]
        process = Surrogate(ranges, settings, [0.5 * w.margin + 0.1 * w.k for w in settings])
        assert process.model.train_inputs[0].shape == (6, 3)
        found.append(process.predict(settings))
    assert found[0] == found[1]


def test_fitting_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    Surrogate(RANGES, *zip(*measured(3), strict=True)).best([w for w, _ in measured(4)])
    assert torch.equal(torch.get_rng_state(), before)


def test_diverged_explorations_are_left_out() -> None:
    settings, _ = zip(*measured(3), strict=True)
    assert Surrogate(RANGES, settings, [0.1, math.nan, 0.3]).predict(settings[:1])[0].deviation > 0
    with pytest.raises(ValueError, match="1 of 3 explorations have a finite loss"):
        Surrogate(RANGES, settings, [0.1, math.nan, math.inf])


def run(search: Search, until: int, start: int = 0) -> Search:
    """Losses that fall faster with k; those of a round start where the one before ended."""
    for t in range(start, until):
        position = search.schedule.at(t)
        k = search.setting(position).k
        search.add((10 - position.round) * math.exp(-0.02 * k * position.step))
        if (position.step + 1) % search.schedule.epoch == 0:
            search.end_epoch(search.mean)
            if position.last:
                search.end_phase(position)
    return search


def test_the_state_goes_on_anywhere() -> None:
    def new() -> Search:
        return Search(PLAN, RANGES, drop=0.15, candidates=20)

    whole = run(new(), PLAN.total)
    for stop in (3, 8, 17, 30, 45):  # within epochs and phases, and at their ends
        half, rest = run(new(), stop), new()
        rest.load_state_dict(half.state_dict())
        assert repr(run(rest, PLAN.total, stop).state_dict()) == repr(whole.state_dict())


def test_every_trial_is_noted() -> None:
    search = run(Search(PLAN, RANGES, drop=0.15, candidates=20), PLAN.total)
    phases = [(t.round, t.phase) for t in search.trials]
    assert phases == [(r, "explore") for r in (1,) * 2] + [(1, "exploit")] + [
        (2, "explore")
    ] * 3 + [(2, "exploit")] + [(3, "explore")] * 4 + [(3, "exploit")]
    assert all(math.isfinite(t.objective) and math.isfinite(t.loss) for t in search.trials)
    assert [math.isnan(t.mean) for t in search.trials] == [True] * 2 + [False] * 10
    chosen = [t for t in search.trials if t.phase == "exploit"]
    assert [tuple(w) for w in search.settings[2:]] == [
        (t.weight, t.margin, t.k, t.p) for t in chosen
    ]
    for t in search.trials:  # losses of a batch are known: (10 - r) exp(-0.02 k step)
        epochs = 3 if t.phase == "exploit" else 2
        steps = np.arange(4 * epochs).reshape(epochs, 4)
        means = (11 - t.round) * np.exp(-0.02 * t.k * steps).mean(1)
        assert t.loss == pytest.approx(means.min())
        assert t.objective == pytest.approx(abs((means[0] - means[1]) / means[0] - 0.15))
