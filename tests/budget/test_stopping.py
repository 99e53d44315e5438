"""What stops answers as what replays; and what stops does not compute further."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from reid_lab.backbone import SmallResNet
from reid_lab.budget import anytime
from reid_lab.budget.anytime import AnytimeModel
from reid_lab.budget.exit_calibration import fit_exit_calibration
from reid_lab.budget.policies import FEATURES, Lookup, Policy, confidence_of
from reid_lab.budget.steps import Steps, steady_rows
from reid_lab.budget.stopping import BudgetedStream
from reid_lab.budget.stream import RunningQuantile, exit_probabilities, exit_shares, replay
from reid_lab.cost.mul_adds import count_exits
from reid_lab.loss import BatchHardTriplet
from reid_lab.model import DaRe
from reid_lab.model.base import State
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate
from tests.budget.people import ids

SIZE = (32, 16)
EXITS = ("stage1", "stage2", "stage3", "fusion")
Q = exit_probabilities(exit_shares(1.0, 4))
POLICIES: list[Policy] = ["random", "distance", "margin", "entropy", "learned"]


@pytest.fixture(scope="module")
def model() -> DaRe:
    torch.manual_seed(0)
    model = DaRe(SmallResNet(4), BatchHardTriplet(), hidden=16, dim=8).eval()
    return model.to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(40, 3, *SIZE).contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def query() -> Ids:
    return ids(torch.arange(40) % 10 + 1, torch.arange(40) % 2)


@pytest.fixture(scope="module")
def stored(model: DaRe, query: Ids) -> Embeddings:
    """A gallery of other images, at every exit."""
    torch.manual_seed(2)
    gallery = ids(torch.arange(60) % 10 + 1, torch.arange(60) % 3)
    with torch.inference_mode():
        g, q = model(torch.randn(60, 3, *SIZE)), model(torch.randn(40, 3, *SIZE))
    exits = {n: Exit(q[n].clone(), g[n].clone(), i + 1) for i, n in enumerate(EXITS)}
    return Embeddings(query, gallery, exits)


def streams(model: DaRe, e: Embeddings, policy: Policy, rows: int) -> BudgetedStream:
    lookups = {n: Lookup(e.exits[n].gallery, e.gallery) for n in EXITS}
    models = fit_exit_calibration(evaluate(e), EXITS).models
    return BudgetedStream(model, lookups, policy, RunningQuantile(Q), 0, models, rows=rows)


def forward(model: DaRe, images: Tensor, size: int) -> dict[str, Tensor]:
    """All exits of all images, in batches of `size`: what a run stores."""
    with torch.inference_mode():
        parts = [model(part) for part in images.split(size)]
    return {name: torch.cat([part[name] for part in parts]) for name in EXITS}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [1, 8, 20, 40])
def test_stopping_equals_replaying_bit_for_bit(
    model: DaRe, images: Tensor, query: Ids, stored: Embeddings, policy: Policy, size: int
) -> None:
    rows = 1 if size == 1 else steady_rows(model, images)
    live, replayed = (streams(model, stored, policy, rows) for _ in range(2))
    batches = torch.arange(40).split(size)
    stopped = [live(images[b], query.take(b)) for b in batches]
    # a batch that is padded is another batch: each full pass has at least as many rows
    full = forward(model, images, next(n for n in (1, 8, 20, 40) if n >= max(size, rows)))
    again = [replayed.replay({n: full[n][b] for n in EXITS}, query.take(b)) for b in batches]
    for one, two in zip(stopped, again, strict=True):
        assert np.array_equal(one.exits, two.exits)
        assert np.array_equal(one.nearest, two.nearest)
        assert all(map(torch.equal, one.embeddings, two.embeddings))
    left = np.concatenate([s.exits for s in stopped])
    assert len(np.unique(left)) > 2
    assert np.array_equal(left, swept(model, stored, policy, full, query))
    for i, s in enumerate(left):  # in the order in which they came in
        assert torch.equal(stopped[i // size].embeddings[i % size], full[EXITS[s]][i])


@pytest.mark.parametrize("policy", ["random", "margin"])
@pytest.mark.parametrize(("size", "full"), [(1, 8), (8, 8), (8, 12), (20, 3)])
def test_merged_batches_have_the_same_answers(
    model: DaRe,
    images: Tensor,
    query: Ids,
    stored: Embeddings,
    policy: Policy,
    size: int,
    full: int,
) -> None:
    """Rows are padded until their bits are steady, and stages get full batches until the end."""
    rows = steady_rows(model, images)
    merging, apart = (streams(model, stored, policy, rows) for _ in range(2))
    batches = [(images[b], query.take(b)) for b in torch.arange(40).split(size)]
    advance, sizes = merging._steps.advance, []

    def counted(exit: str, state: State) -> tuple[State, Tensor]:
        sizes.append((exit, len(state[0])))
        assert state[0].is_contiguous(memory_format=torch.channels_last)
        return advance(exit, state)

    merging._steps.advance = counted  # type: ignore[method-assign]
    one = merging.merged(batches, full)
    several = [apart(*batch) for batch in batches]
    assert np.array_equal(one.exits, np.concatenate([s.exits for s in several]))
    assert np.array_equal(one.nearest, np.concatenate([s.nearest for s in several]))
    assert all(map(torch.equal, one.embeddings, [row for s in several for row in s.embeddings]))
    assert len(np.unique(one.exits)) > 2
    for exit in EXITS:
        few = [count for name, count in sizes if name == exit and count != full]
        assert len(few) <= 1 and max(few, default=0) < full, "only the last batch is smaller"


def test_merged_queries_of_the_gallery_do_not_find_themselves(
    model: DaRe, images: Tensor, query: Ids
) -> None:
    """All boxes are of one file: path and box together say which image is the query."""
    boxes = np.stack([np.arange(40), np.zeros(40), np.arange(40) + 8, np.full(40, 16)], 1)
    frames = replace(query, paths=np.full(40, "frame.jpg", dtype=object), boxes=boxes.astype(int))
    stored = forward(model, images, 40)
    lookups = {n: Lookup(stored[n], frames, candidates="others") for n in EXITS}
    batches = [(images[b], frames.take(b)) for b in torch.arange(40).split(8)]
    found = BudgetedStream(model, lookups, "margin", RunningQuantile(Q)).merged(batches, 20)
    assert not (found.nearest == np.arange(40)).any()


def test_no_batch_has_no_answers(model: DaRe, stored: Embeddings) -> None:
    none = streams(model, stored, "margin", 1).merged([], 8)
    assert len(none.exits) == len(none.nearest) == len(none.embeddings) == 0


@pytest.mark.parametrize("policy", ["random", "margin"])
@pytest.mark.parametrize("reduced", [False, True])
def test_every_answer_is_the_nearest_visible_image(
    model: DaRe, query: Ids, stored: Embeddings, policy: Policy, reduced: bool
) -> None:
    """Answers are from the whole gallery at the query's exit; a reduced one only decides."""
    gallery, few = stored.gallery, torch.arange(0, 60, 2) if reduced else None
    small, whole = (
        {n: Lookup(stored.exits[n].gallery, gallery, rows=rows) for n in EXITS}
        for rows in (few, None)
    )
    rule = RunningQuantile(Q)
    stream = BudgetedStream(model, small, policy, rule, whole=whole if reduced else None)
    answers = stream.replay({n: stored.exits[n].query for n in EXITS}, query)
    assert set(answers.exits.tolist()) == {0, 1, 2, 3}
    for i, s in enumerate(answers.exits.tolist()):
        rows = stored.exits[EXITS[s]].gallery
        away = (answers.embeddings[i] - rows).norm(dim=1)
        away[gallery.camids == query.camids[i]] = torch.inf
        assert answers.nearest[i] == away.argmin().item()


def swept(
    model: DaRe, e: Embeddings, policy: Policy, full: dict[str, Tensor], query: Ids
) -> np.ndarray:
    """The third way: every confidence at once, routed as the sweep does."""
    models = fit_exit_calibration(evaluate(e), EXITS).models
    sure = None
    if policy != "random":
        features = {
            n: Lookup(e.exits[n].gallery, e.gallery).features(full[n], query)[0] for n in EXITS
        }
        sure = np.stack([confidence_of(policy, features[n], models[n]) for n in EXITS])
    return replay(sure, RunningQuantile(Q), np.arange(len(query)), len(EXITS), seed=0)


def test_few_rows_have_other_bits_only_below_the_steady_number(model: DaRe, images: Tensor) -> None:
    rows = steady_rows(model, images)
    assert 1 <= rows <= len(images)
    full = forward(model, images, 40)
    steps = Steps(model, EXITS, rows)
    for chosen in (torch.arange(3), torch.tensor([39]), torch.arange(0, 40, 2)):
        state: tuple[Tensor, ...] = (images[chosen],)
        with torch.inference_mode():
            for name in EXITS:
                state, embeddings = steps.advance(name, state)
                assert torch.equal(embeddings, full[name][chosen])


def test_nothing_is_computed_for_those_who_left(
    model: DaRe, images: Tensor, query: Ids, stored: Embeddings
) -> None:
    seen: dict[str, int] = {}
    hooks = [
        stage.register_forward_hook(
            lambda _m, x, _o, name=name: seen.update({name: seen.get(name, 0) + len(x[0])})
        )
        for name, stage in model.backbone.stages.items()
    ]
    answers = streams(model, stored, "margin", rows=1)(images, query)
    for hook in hooks:
        hook.remove()
    came = [int((answers.exits >= s).sum()) for s in range(4)]
    assert list(seen.values()) == came and came[0] == 40 and came[-1] < 30


@pytest.mark.parametrize("exits", [("stage2", "stage1"), ("stage9",), ()])
def test_exits_that_are_not_there(model: DaRe, exits: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="give some of stage1, stage2, stage3, stage4, fusion"):
        Steps(model, exits)


def test_learned_needs_its_models(model: DaRe, stored: Embeddings) -> None:
    lookups = {n: Lookup(stored.exits[n].gallery, stored.gallery) for n in EXITS}
    with pytest.raises(ValueError, match="needs a model"):
        BudgetedStream(model, lookups, "learned", RunningQuantile(Q))
    with pytest.raises(ValueError, match="without its model"):
        confidence_of("learned", dict.fromkeys(FEATURES, np.zeros(1)))


def test_mul_adds_end_the_anytime_model(model: DaRe, images: Tensor) -> None:
    costs = count_exits(model, *SIZE)
    full = forward(model, images, 40)
    runner = AnytimeModel(model, EXITS)
    budgets = [0.0, *map(float, costs.values()), 1e12]
    found = [runner.embed(images, mul_adds=budget) for budget in budgets]
    assert [a.exit for a in found] == [
        "stage1", "stage1", "stage2", "stage3", "stage3", "fusion", "fusion",
    ]  # fmt: skip
    assert all(torch.equal(a.embeddings, full[a.exit]) for a in found)


class Clock:
    """Time that passes as told: each step of the network takes `step` seconds."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [(0.0, "stage1"), (15.0, "stage1"), (25.0, "stage2"), (39.0, "stage3"), (1e6, "fusion")],
)
def test_a_step_that_would_be_late_is_not_begun(
    model: DaRe, images: Tensor, monkeypatch: pytest.MonkeyPatch, deadline: float, expected: str
) -> None:
    clock = Clock(0.010)
    monkeypatch.setattr(anytime, "time", clock)
    runner = AnytimeModel(model, EXITS)
    advance = runner._steps.advance

    def slowly(exit: str, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        clock.now += clock.step
        return advance(exit, state)

    monkeypatch.setattr(runner._steps, "advance", slowly)
    runner.embed(images)  # it learns what a step takes
    answer = runner.embed(images, deadline_ms=deadline)
    assert answer.exit == expected
    assert answer.milliseconds <= max(deadline, 10.0) + 1e-6


@pytest.mark.parametrize("deadline", [0.0, 5.0, 15.0, 25.0])
def test_at_first_it_is_late_by_one_step_at_most(
    model: DaRe, images: Tensor, monkeypatch: pytest.MonkeyPatch, deadline: float
) -> None:
    clock = Clock(0.010)
    monkeypatch.setattr(anytime, "time", clock)
    runner = AnytimeModel(model, EXITS)
    advance = runner._steps.advance

    def slowly(exit: str, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        clock.now += clock.step
        return advance(exit, state)

    monkeypatch.setattr(runner._steps, "advance", slowly)
    answer = runner.embed(images, deadline_ms=deadline)
    assert answer.step_ms == pytest.approx(10)
    assert answer.milliseconds <= max(deadline, 0) + answer.step_ms + 1e-6
