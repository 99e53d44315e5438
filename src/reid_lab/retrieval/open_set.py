"""Open-set accuracy: a threshold from calibration people, tested on known and unknown people.

The identities of the test set are divided into three groups: the threshold for each target
false-accept rate is chosen on `calibration`; `known` people are enrolled in the gallery, `unknown`
people are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from reid_lab.errors import UserError
from reid_lab.openset.rates import check_rate
from reid_lab.protocol import DISTRACTOR, JUNK, Hidden
from reid_lab.results.rows.verification import OpenSetPoint
from reid_lab.retrieval.bootstrap import RESAMPLES, Resampler, columns, draw, interval
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.memory import GIGABYTE
from reid_lab.retrieval.neighbours import smallest, smallest_work
from reid_lab.retrieval.pair_rates import pair_rates, visible_distances
from reid_lab.retrieval.ranking import answerable, check_sides
from reid_lab.retrieval.space import Space
from reid_lab.retrieval.verification import bin_width, check_distances, roc, select_rows

FEWEST = 6  # people: two a group


class TooFewPeopleError(UserError):
    """Too few people to choose thresholds on."""


@dataclass(frozen=True)
class Groups:
    """Rows of the queries and of the gallery's images, as ints.

    Attributes:
        calibration: queries of the calibration people.
        calibration_gallery: images of these people, and half of the other images.
        known: queries of the known people that have a match in the gallery.
        unknown: queries of the unknown people.
        gallery: images of the known people, and the other half.
    """

    calibration: Tensor
    calibration_gallery: Tensor
    known: Tensor
    unknown: Tensor
    gallery: Tensor


def operating_points(
    space: Space,
    query: Ids,
    gallery: Ids,
    fmrs: Sequence[float],
    hidden: Hidden = "same_person_and_camera",
    seed: int = 0,
    memory: float = GIGABYTE,
) -> list[OpenSetPoint]:
    """One operating point for each of the target false match rates `fmrs`.

    Args:
        seed: random seed of the division into groups.

    Raises:
        TooFewPeopleError: see `split_people`.
        UserError: invalid false-accept rate; see also `verification.roc`.
    """
    check_sides(space, query, gallery)
    check_distances(space)
    for fmr in fmrs:
        check_rate(fmr)
    groups = split_people(query, gallery, hidden, seed)
    # the same bins for all: a threshold is then an edge of each Roc
    count = partial(roc, hidden=hidden, memory=memory, width=bin_width(space))
    rest = hidden, memory
    sides = space, query, gallery
    held_out = select_rows(*sides, groups.calibration, groups.calibration_gallery)
    calibration = count(*held_out)
    thresholds = [calibration.threshold_at(fmr) for fmr in fmrs]
    tried = zip(
        _known(select_rows(*sides, groups.known, groups.gallery), thresholds, *rest),
        _unknown(select_rows(*sides, groups.unknown, groups.gallery), thresholds, *rest),
        strict=True,
    )
    found = []
    for fmr, threshold, (known, unknown) in zip(fmrs, thresholds, tried, strict=True):
        calibration_fmr, calibration_tmr = calibration.at(threshold)
        found.append(
            OpenSetPoint(
                fmr=fmr,
                threshold=threshold,
                calibration_fmr=calibration_fmr,
                calibration_tmr=calibration_tmr,
                **known,
                **unknown,
                calibration_queries=len(groups.calibration),
                known_queries=len(groups.known),
                unknown_queries=len(groups.unknown),
                gallery=len(groups.gallery),
                note=calibration.note(fmr),
            )
        )
    return found


def _known(
    enrolled: tuple[Space, Ids, Ids], thresholds: Sequence[float], hidden: Hidden, memory: float
) -> list[dict[str, float]]:
    """known_fmr, known_tmr, tpir and miss at each threshold, with confidence intervals."""
    pids = enrolled[1].pids.numpy()
    draws = draw(len(np.unique(pids)), RESAMPLES, seed=0)
    draws = np.concatenate([np.ones_like(draws[:1]), draws])  # each once: the rates themselves
    rates = pair_rates(*enrolled, thresholds, draws, hidden, memory)
    ends = [(each[0], *interval(each[1:])) for each in rates]  # of three (F,)
    fmr, tmr = (
        [columns(name, *cells) for cells in zip(*each, strict=True)]
        for name, each in zip(("known_fmr", "known_tmr"), ends, strict=True)
    )
    away, right = nearest(*enrolled, hidden, memory)
    named = Resampler(pids, np.ones(len(pids))).table(
        [{"tpir": _where((away < t) & right, t), "miss": _where(away >= t, t)} for t in thresholds]
    )
    return [a | b | c for a, b, c in zip(fmr, tmr, named, strict=True)]


def _unknown(
    strangers: tuple[Space, Ids, Ids], thresholds: Sequence[float], hidden: Hidden, memory: float
) -> list[dict[str, float]]:
    """fpir at each threshold, with its confidence interval."""
    alarm, _ = nearest(*strangers, hidden, memory)
    pids = strangers[1].pids.numpy()
    return Resampler(pids, np.ones(len(pids))).table(
        [{"fpir": _where(alarm < t, t)} for t in thresholds]
    )


def split_people(query: Ids, gallery: Ids, hidden: Hidden, seed: int) -> Groups:
    """Divide the people with a query and a match into thirds by `seed`, equal for all exits.

    The other images are split evenly between the calibration gallery and the gallery of known
    people, so that both have the same composition: distractors (pid 0) one by one, people without a
    query as a whole. Junk (pid -1) is left out.

    Raises:
        TooFewPeopleError: fewer than six people have a query and a match.
    """
    rng = np.random.default_rng(seed)
    matched = answerable(query, gallery, hidden)
    people = query.pids[matched].unique().numpy()
    if len(people) < FEWEST:
        raise TooFewPeopleError(
            f"{len(people)} people have a query and a match, an open set takes {FEWEST} or more"
        )
    calibration, known, unknown = map(_tensor, np.array_split(rng.permutation(people), 3))
    # each distractor counts as a separate person
    persons = torch.where(gallery.pids == DISTRACTOR, -2 - torch.arange(len(gallery)), gallery.pids)
    others = persons[(persons != JUNK) & ~torch.isin(persons, _tensor(people))].unique().numpy()
    halves = list(map(_tensor, np.array_split(rng.permutation(others), 2)))
    return Groups(
        _rows(torch.isin(query.pids, calibration)),
        _rows(torch.isin(persons, torch.cat([calibration, halves[0]]))),
        _rows(torch.isin(query.pids, known) & matched),
        _rows(torch.isin(query.pids, unknown)),
        _rows(torch.isin(persons, torch.cat([known, halves[1]]))),
    )


def nearest(
    space: Space, query: Ids, gallery: Ids, hidden: Hidden, memory: float = GIGABYTE
) -> tuple[Tensor, Tensor]:
    """(Q,) distance to the nearest visible image, infinite without one; and whether it is the
    same person. Ties are broken by gallery index."""
    distances, right = [torch.empty(0)], [torch.empty(0, dtype=torch.bool)]
    work = smallest_work(len(gallery), 1) + 4 * len(gallery)  # with the masks, of a query
    for rows, reduced in visible_distances(space, query, gallery, hidden, memory, work):
        value, index = smallest(reduced, 1)
        distances.append(space.distances(rows, value)[:, 0].cpu())
        right.append(gallery.pids[index[:, 0].cpu()] == query.pids[rows])
    return torch.cat(distances), torch.cat(right)


def _where(queries: Tensor, threshold: float) -> np.ndarray:
    """(Q,) 1 where `queries` is true, else 0; nan without a threshold."""
    return queries.double().numpy() if math.isfinite(threshold) else np.full(len(queries), np.nan)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)


def _rows(mask: Tensor) -> Tensor:
    return mask.nonzero().flatten()
