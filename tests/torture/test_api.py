"""The plain Python API on numbers that break a careless ranking, beside a naive float64 loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from reid_lab.protocol import Protocol
from reid_lab.retrieval import Embeddings, Exit, Ids, RankingMetric, evaluate, rank

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Sides:
    """Queries and gallery: rows, pids, camids; how they are compared, and what is hidden."""

    query: Any
    gallery: Any
    query_ids: tuple[Any, Any]
    gallery_ids: tuple[Any, Any]
    metric: Any = "euclidean"
    hidden: Any = "same_person_and_camera"
    more: dict[str, Any] = field(default_factory=dict)


def crowd() -> Sides:
    """Thirty queries and 120 gallery images of a dozen people in three cameras."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(14, 6))
    sides = []
    for count, lowest in ((30, 1), (120, -1)):
        pids, cams = rng.integers(lowest, 12, count), rng.integers(1, 4, count)
        rows = centres[pids] + 0.7 * rng.normal(size=(count, 6))
        sides.append((torch.from_numpy(rows).float(), (pids, cams)))
    (query, q), (gallery, g) = sides
    return Sides(query, gallery, q, g)


def naive(s: Sides) -> tuple[float, float]:
    """Rank-1 and mAP by one loop over the queries, in float64; nan where nobody has a match."""
    query, gallery = map(wide, (s.query, s.gallery))
    # by a power of two, which changes no order and no tie
    size = 2.0 ** -np.frexp(max(np.abs(query).max(initial=0), np.abs(gallery).max(initial=0)))[1]
    query, gallery = query * size, gallery * size
    (q_pids, q_cams), (g_pids, g_cams) = (map(np.asarray, x) for x in (s.query_ids, s.gallery_ids))
    firsts, precisions = [], []
    for row, pid, camera in zip(query, q_pids, q_cams, strict=True):
        if pid < 1:  # nobody, who is not searched for
            continue
        if s.metric == "cosine":
            lengths = np.linalg.norm(gallery, axis=1) * np.linalg.norm(row)
            distances = 1 - gallery @ row / lengths
        elif s.metric == "l1":
            distances = np.abs(gallery - row).sum(1)
        else:
            distances = np.square(gallery - row).sum(1)
        same_camera = g_cams == camera
        seen = {
            "nothing": np.full(len(g_pids), True),
            "same_camera": ~same_camera,
            "same_person_and_camera": ~(same_camera & (g_pids == pid)),
        }[s.hidden] & (g_pids != -1)
        hits = (g_pids == pid)[seen][np.argsort(distances[seen], kind="stable")]
        if hits.any():
            places = np.flatnonzero(hits) + 1
            firsts.append(places[0] == 1)
            precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    if not firsts:
        return math.nan, math.nan
    return float(np.mean(firsts)), float(np.mean(precisions))


def wide(rows: Any) -> np.ndarray:
    """In float64."""
    rows = rows.detach().double() if isinstance(rows, torch.Tensor) else rows
    return np.asarray(rows, np.float64)


def ids(pair: tuple[Any, Any], prefix: str) -> Ids:
    names = np.array([f"{prefix}{i}.jpg" for i in range(len(pair[0]))], dtype=object)
    return Ids(*(x if isinstance(x, torch.Tensor) else torch.as_tensor(x) for x in pair), names)  # type: ignore[call-arg]


def by_rank(s: Sides) -> tuple[float, float]:
    both = ids(s.query_ids, "q"), ids(s.gallery_ids, "g")
    found = rank(s.query, s.gallery, *both, metric=s.metric, hidden=s.hidden, **s.more)
    return found.rank1, found.mAP


def by_evaluate(s: Sides) -> tuple[float, float]:
    exits = {"only": Exit(s.query, s.gallery, 1)}
    made = Embeddings(ids(s.query_ids, "q"), ids(s.gallery_ids, "g"), exits)
    found = evaluate(made, s.metric, Protocol(hidden=s.hidden), **s.more).rankings["only"]
    return found.rank1, found.mAP


def by_metric(s: Sides) -> tuple[float, float]:
    metric = RankingMetric(s.metric, Protocol(hidden=s.hidden), **s.more)
    begin = 0
    for rows, (pids, cams), part in (
        (s.query, s.query_ids, True),
        (s.gallery, s.gallery_ids, False),
    ):
        index = torch.arange(begin, begin + len(rows))
        begin += len(rows)
        asks = torch.full((len(rows),), part)
        metric.update(rows, torch.as_tensor(pids), torch.as_tensor(cams), asks, index)
    found = metric.compute()
    return float(found["rank1"]), float(found["mAP"])


APIS = {"rank": by_rank, "evaluate": by_evaluate, "metric": by_metric}
Change = Callable[[Sides], Sides]


def rows(change: Callable[[torch.Tensor], Any]) -> Change:
    """Both sides' rows, changed."""
    return lambda s: replace(s, query=change(s.query), gallery=change(s.gallery))


def query_pid(where: slice, pid: int) -> Change:
    def change(s: Sides) -> Sides:
        pids = s.query_ids[0].copy()
        pids[where] = pid
        return replace(s, query_ids=(pids, s.query_ids[1]))

    return change


def first(queries: int, images: int) -> Change:
    """Only so many of each."""
    return lambda s: replace(
        s,
        query=s.query[:queries],
        gallery=s.gallery[:images],
        query_ids=tuple(x[:queries] for x in s.query_ids),
        gallery_ids=tuple(x[:images] for x in s.gallery_ids),
    )


def each_id(change: Callable[[np.ndarray], Any]) -> Change:
    return lambda s: replace(
        s,
        query_ids=tuple(map(change, s.query_ids)),
        gallery_ids=tuple(map(change, s.gallery_ids)),
    )


def setting(**values: Any) -> Change:
    return lambda s: replace(s, **values)


def one_camera_less(s: Sides) -> Sides:
    """The queries of the third camera find nobody: it is all that the gallery has."""
    pids, cams = s.gallery_ids
    return replace(s, gallery_ids=(pids, np.full_like(cams, 3)), hidden="same_camera")


def spoilt(value: float) -> Change:
    def change(s: Sides) -> Sides:
        gallery = s.gallery.clone()
        gallery[7, 2] = value
        return replace(s, gallery=gallery)

    return change


RIGHT: dict[str, Change] = {
    "as it is": lambda s: s,
    "cosine": setting(metric="cosine"),
    "l1": setting(metric="l1"),
    "everything is seen": setting(hidden="nothing"),
    "other cameras only": setting(hidden="same_camera"),
    "queries of nobody": query_pid(slice(0, 9), -1),
    "queries of distractors": query_pid(slice(0, 9), 0),
    "queries without a match": query_pid(slice(0, 9), 99),
    "a camera without gallery": one_camera_less,
    "rows * 1e19": rows(lambda x: x * 1e19),
    "rows * 1e30": rows(lambda x: x * 1e30),
    "rows * 1e-23": rows(lambda x: x * 1e-23),
    "rows * 1e-37": rows(lambda x: x * 1e-37),
    "rows * 1e19, cosine": lambda s: rows(lambda x: x * 1e19)(replace(s, metric="cosine")),
    "rows * 1e-23, cosine": lambda s: rows(lambda x: x * 1e-23)(replace(s, metric="cosine")),
    "rows * 1e30, l1": lambda s: rows(lambda x: x * 1e30)(replace(s, metric="l1")),
    "rows + 1000": rows(lambda x: x + 1000),
    "rows + 1e5": rows(lambda x: x + 1e5),
    "rows + 1000, l1": lambda s: rows(lambda x: x + 1000)(replace(s, metric="l1")),
    "one column + 1e6": rows(lambda x: x + torch.tensor([1e6, 0, 0, 0, 0, 0])),
    "float64": rows(lambda x: x.double()),
    "float16": rows(lambda x: x.half()),
    "bfloat16": rows(lambda x: x.bfloat16()),
    "integers": rows(lambda x: (x * 4).long()),
    "many ties": rows(lambda x: x.round() + 20),
    "all the same": rows(torch.ones_like),
    "requires grad": rows(lambda x: x.clone().requires_grad_()),
    "numpy": rows(lambda x: x.numpy()),
    "numpy, read only, big endian": rows(lambda x: x.numpy().astype(">f4")),
    "numpy, every second column": rows(lambda x: x.numpy()[:, ::2]),
    "not contiguous": rows(lambda x: x.T.contiguous().T),
    "one column": rows(lambda x: x[:, :1]),
    "2048 columns": rows(lambda x: x.repeat(1, 342)[:, :2048]),
    "one query": first(1, 120),
    "few images": first(30, 12),
    "int32 ids": each_id(lambda x: x.astype(np.int32)),
    "large ids": each_id(lambda x: np.where(x > 0, x + 2**61, x)),
    "ids of torch": each_id(torch.from_numpy),
    "little memory": setting(more={"memory": 1e6}),
}
REFUSED: dict[str, Change] = {
    "no gallery": first(30, 0),
    "nan": spoilt(math.nan),
    "inf": spoilt(math.inf),
    "zero rows, cosine": lambda s: rows(torch.zeros_like)(replace(s, metric="cosine")),
    "another dimension": lambda s: replace(s, query=s.query[:, :3]),
    "no dimension": rows(lambda x: x[:, :0]),
    "vectors": rows(lambda x: x[:, 0]),
    "cubes": rows(lambda x: x[:, :, None]),
    "complex": rows(lambda x: x.to(torch.complex64)),
    "text": rows(lambda x: np.full(x.shape, "x")),
    "fewer gallery ids": lambda s: replace(s, gallery_ids=tuple(x[:90] for x in s.gallery_ids)),
    "more gallery ids": lambda s: replace(
        s, gallery_ids=tuple(np.tile(x, 2) for x in s.gallery_ids)
    ),
    "fewer query ids": lambda s: replace(s, query_ids=tuple(x[:20] for x in s.query_ids)),
    "fewer camids": lambda s: replace(s, gallery_ids=(s.gallery_ids[0], s.gallery_ids[1][:90])),
    "fractional pids": each_id(lambda x: x + 0.5),
    "memory of a byte": setting(more={"memory": 1}),
    "memory nan": setting(more={"memory": math.nan}),
    "an unknown metric": setting(metric="hamming"),
    "an unknown protocol": setting(hidden="everybody"),
}
EITHER: dict[str, Change] = {
    "no query": first(0, 120),
    "float64 of 1e200": rows(lambda x: x.double() * 1e200),
    "all zero": rows(torch.zeros_like),
    "no query has a match": query_pid(slice(None), 99),
    "all queries are nobody's": query_pid(slice(None), -1),
}
CASES = [
    (name, expected, change, api)
    for expected, cases in (("right", RIGHT), ("refused", REFUSED), ("either", EITHER))
    for name, change in cases.items()
    for api in APIS
]


@pytest.mark.torture("api", share=3)
@pytest.mark.parametrize(
    ("name", "expected", "change", "api"), CASES, ids=[f"{c[0]}, {c[3]}" for c in CASES]
)
def test_numbers(name: str, expected: str, change: Change, api: str) -> None:
    sides = change(crowd())
    try:
        found = APIS[api](sides)
    except ValueError as error:  # what the API promises, with a message of its own
        assert expected != "right", error
        assert len(str(error)) > 20
        return
    assert expected != "refused", found
    assert found == pytest.approx(naive(sides), abs=1e-6, nan_ok=True)
