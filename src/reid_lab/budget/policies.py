"""The confidence of an exit in its answer to a query; larger is easier.

`random`, `distance` and `margin` are from DaRe, sections 4.2 and 5.3.2; the others are ours. All
but `random` use the geometric shares of equation 3.

`random`    noise, at the two exits around the budget only: the baseline of figure 6
`geometric` noise
`distance`  minus the distance to the nearest gallery image
`margin`    how much farther the nearest image of another person is; reads the gallery's labels
`entropy`   minus the entropy of the `NEAREST` nearest images, see `_entropy`
`learned`   a logistic model of the four `FEATURES`, see logistic.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reid_lab.budget.logistic import Logistic
from reid_lab.cost.currency import Floats
from reid_lab.errors import UserError
from reid_lab.protocol import DISTRACTOR, Hidden, Protocol
from reid_lab.retrieval.embeddings import Embeddings, Exit, Ids
from reid_lab.retrieval.ranking import hidden_mask
from reid_lab.retrieval.space import Metric, Space, full_precision, in_space, scale_by_power
from reid_lab.vectors.search import in_order

Policy = Literal["random", "geometric", "distance", "margin", "entropy", "learned"]
Candidates = Literal["all", "other_cameras", "others", "oracle"]
Features = Mapping[str, Floats]  # feature -> (n,) of so many queries

FEATURES = ("nearest", "margin", "entropy", "spread")
NEEDS: Mapping[Policy, tuple[str, ...]] = {
    "random": (),
    "geometric": (),
    "distance": ("nearest",),
    "margin": ("margin",),
    "entropy": ("entropy",),
    "learned": FEATURES,
}
NOISE = tuple(policy for policy, needs in NEEDS.items() if not needs)
NEAREST = 10  # gallery images in entropy and spread
SPARE_CANDIDATES = 6  # more candidates than needed, so that rounding cannot drop one
TEMPERATURE = 0.3  # default temperature of the entropy, in nearest distances
BLOCK = 512  # queries whose distances are computed together


def candidates_under(protocol: Protocol, wanted: Candidates = "other_cameras") -> Candidates:
    """`wanted`, unless the protocol hides less than the query's camera: then what it shows."""
    if protocol.hidden == "itself":
        return "others"
    return "all" if protocol.hidden == "nothing" else wanted


def confidence_of(policy: Policy, features: Features, learned: Logistic | None = None) -> Floats:
    """(n,) confidence of an exit, from the features of `Lookup.features`; larger is easier.

    Raises:
        ValueError: `random` or `geometric`, which have no features, or `learned` without its model.
    """
    if policy == "distance":
        return -features["nearest"]
    if policy == "margin":
        return features["margin"]
    if policy == "entropy":
        return -features["entropy"]
    if policy == "learned" and learned is not None:
        return learned(as_matrix(features))
    raise ValueError(f"policy {policy} has no confidence without its model: give one for each exit")


def as_matrix(features: Features) -> Floats:
    """(n, F) the features that `learned` takes."""
    return np.stack([features[name] for name in FEATURES], axis=1)


class Lookup:
    """One exit's gallery, from which a policy computes its features.

    One matrix product selects the nearest images, whose distances are then computed pair by
    pair: a query has the same confidence, to the bit, in any batch.

    Args:
        gallery: (G, D) embeddings of that exit.
        ids: ids of the gallery images.
        metric: metric of the distances.
        candidates: gallery images that are searched: `all`; `other_cameras`, without the
            query's own camera, which is known at inference; `others`, without the query's own
            image, for queries from the gallery; `oracle`, without images of the query's person in
            its camera, which reads the query's label as the authors' code does: for comparison
            only. Junk (pid -1) is never a candidate.
        rows: gallery rows that may be searched; None takes all.
        temperature: temperature of the softmax in the entropy, in units of the nearest distance;
            at smaller ones fewer of the nearest images count.
    """

    def __init__(
        self,
        gallery: Tensor,
        ids: Ids,
        metric: Metric = "euclidean",
        candidates: Candidates = "other_cameras",
        rows: Tensor | None = None,
        temperature: float = TEMPERATURE,
    ) -> None:
        space = Space.of(gallery[:1], gallery, metric)
        if space.signs is not None:
            raise UserError(
                "policies need distances of zero or more, and this metric has negative "
                "directions: clip them (model.kissme_clip=true of LOMO), or use another metric"
            )
        self.power, self.centre = space.power, space.centre
        people = ids.pids >= DISTRACTOR
        if rows is not None:
            people &= torch.zeros_like(people).index_fill_(0, rows, True)
        self.rows = people.nonzero().flatten()  # a candidate's row of the whole gallery
        device = gallery.device
        self.gallery = self._centred(space.gallery[self.rows.to(device)])  # (G, D)
        # a second copy: one query's products read it 3 to 6 times as fast
        self._columns = self.gallery.T.contiguous() if metric != "l1" else None
        self.norms = self.gallery.square().sum(1)
        self.ids = ids.take(self.rows)
        self.camids = self.ids.camids.to(device)
        # each distractor is a separate person
        alone = -1 - torch.arange(len(self.ids))
        people_of = torch.where(self.ids.pids == DISTRACTOR, alone, self.ids.pids)
        self._people, self._people_there = people_of.numpy(), people_of.to(device)
        self.metric, self.candidates = metric, candidates
        self.temperature = temperature
        self.searched = min(NEAREST + SPARE_CANDIDATES, len(self.rows))
        if not len(self.rows):
            raise ValueError("the gallery has no image with pid >= 0: nothing can be searched")

    @property
    def mul_adds(self) -> int:
        """Mul-Adds of the distances of one query to the candidates."""
        return self.gallery.numel()

    def features(
        self, rows: Tensor, query: Ids, needs: tuple[str, ...] = FEATURES
    ) -> tuple[dict[str, Floats], NDArray[np.intp]]:
        """Features `needs` of queries (n, D), (n,) each, and the (n,) nearest gallery rows.

        A query without candidates has an infinite nearest distance: the lowest confidence in every
        policy.
        """
        parts, found = [], []
        for start in range(0, max(len(rows), 1), BLOCK):  # no queries: empty features
            part = slice(start, start + BLOCK)
            ids = query if len(rows) <= BLOCK else query.take(torch.arange(len(query))[part])
            features, index = self._block(rows[part], ids, needs)
            parts.append(features)
            found.append(index)
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return joined, np.concatenate(found)

    def _block(
        self, rows: Tensor, ids: Ids, needs: tuple[str, ...]
    ) -> tuple[dict[str, Floats], NDArray[np.intp]]:
        rows = self._centred(in_space(rows, self.metric, self.power))
        about = self._about(rows, ids)
        near, index = self._nearest(rows, about, self.searched)
        first = near[:, 0]
        features = {"nearest": first}
        if "margin" in needs:
            far = self._other(rows, about, near, index)
            lonely = np.isinf(first)  # no candidates
            features["margin"] = np.where(lonely, -np.inf, far - np.where(lonely, 0, first))
        near = near[:, :NEAREST]
        if "entropy" in needs:
            features["entropy"] = _entropy(torch.from_numpy(near), self.temperature).numpy()
        if "spread" in needs:
            rows = torch.from_numpy(near)
            visible = rows.isfinite()
            mean = rows.masked_fill(~visible, 0).sum(1) / visible.sum(1).clamp(min=1)
            features["spread"] = mean.numpy() - first
        columns = {name: values.astype(np.float64) for name, values in features.items()}
        return columns, self.rows.numpy()[index[:, 0]]

    def _centred(self, rows: Tensor) -> Tensor:
        return rows if self.centre is None else rows - self.centre

    def _about(self, rows: Tensor, ids: Ids) -> Tensor:
        """(n, G) values that order the candidates up to rounding; infinite where hidden."""
        if self._columns is None:
            about = torch.cdist(rows, self.gallery, p=1)
        else:
            with full_precision():
                about = torch.addmm(self.norms[None], rows, self._columns, alpha=-2)
        if self.candidates == "other_cameras":
            camids = ids.camids.to(about.device)
            return about.masked_fill_(camids[:, None] == self.camids, torch.inf)
        if self.candidates in ("oracle", "others"):
            oracle = self.candidates == "oracle"
            hides: Hidden = "same_person_and_camera" if oracle else "itself"
            return about.masked_fill_(hidden_mask(ids, self.ids, hides).to(about.device), torch.inf)
        return about

    def _nearest(self, rows: Tensor, about: Tensor, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n, k) ascending distances of the nearest candidates by `about`, and their indices.

        The few candidates are sorted in numpy, whose calls cost a fraction of torch's.
        """
        values, index = about.topk(k, largest=False)
        order = 1.0 if self.metric == "l1" else 2.0
        near = F.embedding(index, self.gallery)  # (n, k, D)
        away = torch.cdist(rows[:, None], near, order, "donot_use_mm_for_euclid_dist")[:, 0]
        away = away.square() / 2 if self.metric == "cosine" else scale_by_power(away, -self.power)
        exact, indices = away.cpu().numpy(), index.cpu().numpy()
        exact = np.where(np.isinf(values.cpu().numpy()), np.float32(np.inf), exact)
        return in_order(exact, indices)

    def _other(
        self, rows: Tensor, about: Tensor, near: NDArray[Any], index: NDArray[Any]
    ) -> NDArray[Any]:
        """(n,) distance to the nearest image of another person than that of the nearest image."""
        person = self._people[index[:, :1]]
        same = self._people[index] == person
        far: NDArray[Any] = np.where(same, np.float32(np.inf), near).min(1)
        lacking = np.flatnonzero(np.isinf(far))
        if len(lacking):  # all candidates show the same person
            indices = torch.from_numpy(lacking).to(about.device)
            shown = torch.from_numpy(person[lacking]).to(about.device)
            others = about[indices].masked_fill(shown == self._people_there, torch.inf)
            nearest, _ = self._nearest(rows[indices], others, min(SPARE_CANDIDATES, self.searched))
            far[lacking] = nearest[:, 0]
        return far


def lookups_of(
    embeddings: Embeddings,
    exits: Sequence[str],
    metric: Metric = "euclidean",
    candidates: Candidates = "other_cameras",
    rows: Tensor | None = None,
    temperature: float = TEMPERATURE,
) -> dict[str, Lookup]:
    """Exit -> its `Lookup`; exits that share a gallery share a `Lookup`."""
    made: dict[int, Lookup] = {}
    found = {}
    for name in exits:
        gallery = embeddings.exits[name].gallery
        if id(gallery) not in made:
            options = (metric, candidates, rows, temperature)
            made[id(gallery)] = Lookup(gallery, embeddings.gallery, *options)
        found[name] = made[id(gallery)]
    return found


def confidence(
    exit: Exit,
    query: Ids,
    gallery: Ids,
    policy: Policy,
    candidates: Candidates = "other_cameras",
    metric: Metric = "euclidean",
) -> Floats:
    """(Q,) confidence of all queries at an exit.

    Raises:
        ValueError: a noise policy, which has no features, or `learned`, which needs a model.
    """
    features, _ = Lookup(exit.gallery, gallery, metric, candidates).features(exit.query, query)
    return confidence_of(policy, features)


def one_image_per_camera(ids: Ids) -> Tensor:
    """Rows of a reduced gallery: one image of each person and camera, and all distractors."""
    pairs = np.stack([ids.pids.numpy(), ids.camids.numpy()])
    _, first = np.unique(pairs, axis=1, return_index=True)
    distractors = np.flatnonzero(pairs[0] <= 0)
    return torch.from_numpy(np.union1d(first, distractors))


def _entropy(near: Tensor, temperature: float) -> Tensor:
    """Entropy of the softmax of -distance / (temperature * nearest distance).

    It does not depend on the scale of the embeddings.
    """
    nearest = near[:, :1]
    unit = temperature * nearest.clamp(min=torch.finfo(near.dtype).tiny)
    inside = torch.where(nearest.isinf(), 0, -(near - nearest) / unit)
    result: Tensor = torch.special.entr(inside.softmax(1)).sum(1)
    return result
