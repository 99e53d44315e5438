from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_lab.dataset import DatasetError, PKSampler
from reid_lab.dataset.sampler import ImageSampler, auto_k, auto_p

PIDS = np.repeat(np.arange(1, 12), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])


def indices(batch: list[tuple[int, int]]) -> np.ndarray:
    return np.array([index for index, _ in batch])


@settings(max_examples=40, deadline=None)
@given(p=st.integers(2, 11), k=st.integers(2, 6), t=st.integers(0, 500), seed=st.integers(0, 9))
def test_a_batch_has_p_people_with_k_images_each(p: int, k: int, t: int, seed: int) -> None:
    chosen = indices(PKSampler(PIDS, p, k, seed).batch(t))
    people = Counter(PIDS[chosen].tolist())
    assert set(people.values()) == {k}
    assert len(people) == p
    for pid in people:
        times = Counter(chosen[PIDS[chosen] == pid].tolist())
        owned = int((pid == PIDS).sum())
        assert len(times) == min(k, owned)  # all different where there are enough
        assert max(times.values()) - min(times.values()) <= 1  # else repeated evenly


def test_a_pass_meets_everyone_once_but_for_the_remainder() -> None:
    sampler = PKSampler(PIDS, 3, 2)
    met = [pid for t in range(3) for pid in set(PIDS[indices(sampler.batch(t))].tolist())]
    assert len(met) == len(set(met)) == 9


def test_same_seed_same_batches_another_seed_others() -> None:
    one, two, other = PKSampler(PIDS, 4, 3, 5), PKSampler(PIDS, 4, 3, 5), PKSampler(PIDS, 4, 3, 6)
    assert list(one) == list(two)
    assert list(one) != list(other)


def test_epochs_go_on_and_may_be_entered_anywhere() -> None:
    sampler = PKSampler(PIDS, 4, 3)
    assert len(sampler) == -(-len(PIDS) // 12)
    sampler.set_epoch(2)
    whole = list(sampler)
    assert whole[0] == sampler.batch(2 * len(sampler))
    assert next(iter(sampler)) == sampler.batch(
        3 * len(sampler)
    )  # the next epoch without set_epoch
    sampler.set_epoch(2)
    sampler.start = 3
    assert list(sampler) == whole[3:]


def test_ranks_split_a_batch_by_people() -> None:
    whole = PKSampler(PIDS, 6, 2)
    for t in range(5):
        parts = [PKSampler(PIDS, 6, 2, 0, rank, 3).batch(t) for rank in range(3)]
        assert sum(parts, []) == whole.batch(t)
        people = [set(PIDS[indices(part)].tolist()) for part in parts]
        assert not people[0] & people[1] | people[1] & people[2] | people[0] & people[2]


def test_junk_and_distractors_are_never_drawn() -> None:
    pids = np.array([-1, 0, 0, 1, 1, 2, 2])
    sampler = PKSampler(pids, 2, 2)
    assert {i for batch in sampler for i in indices(batch).tolist()} == {3, 4, 5, 6}


@pytest.mark.parametrize(
    ("p", "k", "world", "message"),
    [
        (12, 2, 1, r"dataset\.p=12, but there are 11 .* 2 <= p <= 11"),
        (1, 2, 1, "2 <= p"),
        (4, 1, 1, r"dataset\.k=1.*k >= 2"),
        (4, 2, 3, "multiple of 3"),
    ],
)
def test_impossible_p_and_k(p: int, k: int, world: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PKSampler(PIDS, p, k, 0, 0, world)


def test_an_epoch_of_images_meets_each_once_but_for_the_remainder() -> None:
    pids = np.array([-1, 0, *PIDS])
    sampler = ImageSampler(pids, 8, seed=2)
    met = np.concatenate([indices(sampler.batch(t)) for t in range(len(sampler))])
    assert len(met) == len(set(met.tolist())) == len(PIDS) // 8 * 8
    assert (pids[met] > 0).all()
    again = np.concatenate([indices(sampler.batch(t + len(sampler))) for t in range(len(sampler))])
    assert not np.array_equal(met, again)


def test_ranks_share_a_batch_of_images() -> None:
    whole = ImageSampler(PIDS, 8, seed=2).batch(3)
    parts = [ImageSampler(PIDS, 8, 2, rank, 2).batch(3) for rank in (0, 1)]
    assert parts[0] + parts[1] == whole
    with pytest.raises(DatasetError, match="multiple of 3"):
        ImageSampler(PIDS, 8, world=3)
    with pytest.raises(DatasetError, match="batch_size=67, but there are 66"):
        ImageSampler(PIDS, 67)


@pytest.mark.parametrize(
    ("identities", "world", "p"),
    [(700, 1, 18), (18, 1, 18), (4, 1, 4), (700, 4, 16), (7, 2, 6), (3, 4, 4), (1, 1, 1)],
)
def test_auto_p_fits_identities_and_processes(identities: int, world: int, p: int) -> None:
    assert auto_p(identities, world) == p


@pytest.mark.parametrize(("counts", "k"), [([9, 9, 2], 4), ([3, 3, 9], 3), ([1, 1, 9], 2), ([], 4)])
def test_automatic_k_is_that_of_the_median_identity(counts: list[int], k: int) -> None:
    assert auto_k(np.array(counts)) == k
