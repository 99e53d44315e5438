"""Open-set accuracy: a threshold from calibration people, tested on known and unknown people.

The test set's identities are dealt into three groups: on `calibration` the threshold for each
wanted false-accept rate is chosen, `known` people are enrolled in the gallery, `unknown`
people walk past it.
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
from reid_lab.protocol import Hidden
from reid_lab.retrieval.embeddings import Ids
from reid_lab.retrieval.memory import GIGABYTE, BlockPlan
from reid_lab.retrieval.neighbours import smallest, smallest_work
from reid_lab.retrieval.ranking import Known, check_sides, hidden_mask
from reid_lab.retrieval.space import Space
from reid_lab.retrieval.verification import bin_width, check_distances, check_rate, roc, taken

FEWEST = 6  # people: two a group


class TooFewPeopleError(UserError):
    """The identities cannot be divided into three groups."""


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


@dataclass(frozen=True)
class OpenSetPoint:
    """The effect of the threshold for a target false-accept rate; shares are 0 to 1.

    Attributes:
        far: target share of impostor pairs nearer than the threshold.
        threshold: in the metric's own unit; a pair passes where it is nearer. nan where the
            calibration pairs cannot show the rate: then so is the rest, and `note` is the reason.
        calibration_far, calibration_tpr: of the pairs that the threshold was chosen on.
        known_far, known_tpr: of the known people's pairs, which it has not seen.
        dir: known queries whose nearest image is nearer than the threshold and is the right
            person: detection and identification rate at rank 1 (Phillips et al., "Evaluation
            methods in face recognition", Handbook of Face Recognition, 2011).
        miss: known queries with nothing nearer than the threshold.
        fpir: unknown people's queries with something nearer than it: false alarms.
        calibration_queries, known_queries, unknown_queries, gallery: how many.
    """

    far: float
    threshold: float
    calibration_far: float
    calibration_tpr: float
    known_far: float
    known_tpr: float
    dir: float
    miss: float
    fpir: float
    calibration_queries: int
    known_queries: int
    unknown_queries: int
    gallery: int
    note: str = ""


def operating_points(
    space: Space,
    query: Ids,
    gallery: Ids,
    fars: Sequence[float],
    hidden: Hidden = "same_person_and_camera",
    seed: int = 0,
    memory: float = GIGABYTE,
) -> list[OpenSetPoint]:
    """One for each of the target false-accept rates `fars`.

    Args:
        seed: of the division into groups.

    Raises:
        TooFewPeopleError: see `deal`.
        UserError: a rate that is none, and see `verification.roc`.
    """
    check_sides(space, query, gallery)
    check_distances(space)
    for far in fars:
        check_rate(far)
    groups = deal(query, gallery, hidden, seed)
    # the same bins for all: a threshold is then an edge of each Roc
    count = partial(roc, hidden=hidden, memory=memory, width=bin_width(space))
    held_out = taken(space, query, gallery, groups.calibration, groups.calibration_gallery)
    calibration = count(*held_out)
    enrolled = taken(space, query, gallery, groups.known, groups.gallery)
    pairs = count(*enrolled)
    away, right = nearest(*enrolled, hidden, memory)
    strangers = taken(space, query, gallery, groups.unknown, groups.gallery)
    alarm, _ = nearest(*strangers, hidden, memory)
    found = []
    for far in fars:
        threshold = calibration.threshold_at(far)
        calibration_far, calibration_tpr = calibration.at(threshold)
        known_far, known_tpr = pairs.at(threshold)
        found.append(
            OpenSetPoint(
                far=far,
                threshold=threshold,
                calibration_far=calibration_far,
                calibration_tpr=calibration_tpr,
                known_far=known_far,
                known_tpr=known_tpr,
                dir=_share((away < threshold) & right, threshold),
                miss=_share(away >= threshold, threshold),
                fpir=_share(alarm < threshold, threshold),
                calibration_queries=len(groups.calibration),
                known_queries=len(groups.known),
                unknown_queries=len(groups.unknown),
                gallery=len(groups.gallery),
                note=calibration.note(far),
            )
        )
    return found


def deal(query: Ids, gallery: Ids, hidden: Hidden, seed: int) -> Groups:
    """People with a query and a match into thirds, by `seed`; the same for every exit.

    The other images are dealt half to the calibration gallery and half to the known people's,
    so that both are made of the same things: distractors (pid 0) one by one, people whom no
    query finds as a whole. Boxes without a person (pid -1) are left out.

    Raises:
        TooFewPeopleError: fewer than six people have a query and a match.
    """
    rng = np.random.default_rng(seed)
    answerable = _answerable(query, gallery, hidden)
    people = query.pids[answerable].unique().numpy()
    if len(people) < FEWEST:
        raise TooFewPeopleError(
            f"{len(people)} people have a query and a match, an open set takes {FEWEST} or more"
        )
    calibration, known, unknown = map(_tensor, np.array_split(rng.permutation(people), 3))
    # each distractor is a person of its own
    persons = torch.where(gallery.pids == 0, -2 - torch.arange(len(gallery)), gallery.pids)
    others = persons[(persons != -1) & ~torch.isin(persons, _tensor(people))].unique().numpy()
    halves = list(map(_tensor, np.array_split(rng.permutation(others), 2)))
    return Groups(
        _rows(torch.isin(query.pids, calibration)),
        _rows(torch.isin(persons, torch.cat([calibration, halves[0]]))),
        _rows(torch.isin(query.pids, known) & answerable),
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
    step = max(1, int(BlockPlan.of(len(gallery), memory, work).spare / work))
    for rows, block in space.blocks(memory, work):
        for start in range(rows.start, rows.stop, step):
            some = slice(start, min(start + step, rows.stop))
            reduced = block[some.start - rows.start : some.stop - rows.start]
            mine = query.take(torch.arange(some.start, some.stop))
            reduced.masked_fill_(hidden_mask(mine, gallery, hidden).to(reduced.device), torch.inf)
            value, index = smallest(reduced, 1)
            distances.append(space.distances(some, value)[:, 0].cpu())
            right.append(gallery.pids[index[:, 0].cpu()] == mine.pids)
    return torch.cat(distances), torch.cat(right)


def _answerable(query: Ids, gallery: Ids, hidden: Hidden) -> Tensor:
    """(Q,) bool: queries of a person with a visible match."""
    found = query.pids > 0
    if bool(found.any()):
        _, match, _ = Known(gallery, hidden).of(query.take(_rows(found)), slice(None))
        found[_rows(found)] = match.any(1)
    return found


def _share(queries: Tensor, threshold: float) -> float:
    return queries.double().mean().item() if math.isfinite(threshold) else math.nan


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values)


def _rows(mask: Tensor) -> Tensor:
    return mask.nonzero().flatten()
