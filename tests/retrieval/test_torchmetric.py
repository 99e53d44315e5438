"""The torchmetrics class against the function, in one process and in two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reid_lab.protocol import ALL_AGAINST_ALL, Protocol
from reid_lab.retrieval import Embeddings, Exit, Ids, RankingMetric, evaluate, rank
from reid_lab.retrieval.checks import NoMatchError
from tests.launcher import Launcher, Starter
from tests.ranks import end_well, start_ranks
from tests.retrieval.people import crowd

Columns = list[torch.Tensor]
PROCESS = """
import os
import torch
import torch.distributed as dist
from tests.retrieval.people import crowd
from tests.retrieval.test_torchmetric import columns, filled

number = int(os.environ["LOCAL_RANK"])
dist.init_process_group("gloo", rank=number, world_size=2)
data = columns(*crowd(3))
mine = torch.arange(number, 151, 2) % 150  # unevenly many; one image twice
values = [filled(data, mine).compute()]
for half in (False, True):  # all at process 0, nothing at process 1; and once more
    metric = filled(data, torch.arange(150 if number == 0 else 0), half=half)
    values.append(metric.compute())
    metric._computed = None
    metric.update(*(column[number : number + 1] for column in data))
    values.append(metric.compute())
torch.save(values, f"{number}.pt")
dist.destroy_process_group()
"""


def columns(query: torch.Tensor, gallery: torch.Tensor, q: Ids, g: Ids) -> Columns:
    rows = torch.cat([query, gallery])
    numbers = torch.arange(len(rows))
    pids, camids = torch.cat([q.pids, g.pids]), torch.cat([q.camids, g.camids])
    return [rows, pids, camids, numbers < len(query), numbers]


def filled(data: Columns, order: torch.Tensor, **options: bool) -> RankingMetric:
    metric = RankingMetric(**options)  # type: ignore[arg-type]
    for part in order.split(17):
        metric.update(*(column[part] for column in data))
    return metric


def test_equals_the_function_in_any_order_with_padding() -> None:
    sides = crowd(1)
    data = columns(*sides)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([order, order[:13]])  # as a DDP sampler pads
    metric = filled(data, padded)
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == pytest.approx(rank(*sides).summary(), abs=1e-7)
    metric.reset()
    with (
        pytest.warns(UserWarning, match="called before the"),
        pytest.raises(ValueError, match="nothing to rank"),
    ):
        metric.compute()


def test_all_against_all_every_image_is_in_the_gallery() -> None:
    _, rows, _, g = crowd(1)
    numbers, asks = torch.arange(len(g)), g.pids > 0
    metric = RankingMetric(protocol=ALL_AGAINST_ALL)
    metric.update(rows, g.pids, g.camids, asks, numbers)
    query = asks.nonzero().flatten()
    expected = rank(rows[query], rows, g.take(query), g, hidden="itself").summary()
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == pytest.approx(expected, abs=1e-7)


def test_a_batchs_value_leaves_the_whole_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`forward` is Lightning's and torchmetrics' way to log a batch and an epoch."""
    data = columns(*crowd(1))
    metric, updates = RankingMetric(), list[int]()
    update = metric.update
    monkeypatch.setattr(metric, "update", lambda *rows: (updates.append(1), update(*rows)))
    batch = torch.cat([torch.arange(30), torch.arange(30, 150, 2)])  # all queries
    rest = torch.arange(31, 150, 2)
    value = metric(*(column[batch] for column in data))
    metric.update(*(column[rest] for column in data))
    query, gallery, q, g = crowd(1)
    part = rank(query, gallery[::2], q, g.take(torch.arange(0, 120, 2))).summary()
    assert {n: v.item() for n, v in value.items()} == pytest.approx(part, abs=1e-7)
    whole = rank(query, gallery, q, g).summary()
    assert {n: v.item() for n, v in metric.compute().items()} == pytest.approx(whole, abs=1e-7)
    assert len(updates) == 2  # the batch's state joins the others: it is not computed twice


def test_half_precision_keeps_half_the_bytes() -> None:
    query, gallery, q, g = crowd(2)
    metric = filled(columns(query, gallery, q, g), torch.arange(150), half=True)
    assert {part.dtype for part in metric.rows} == {torch.float16}
    expected = rank(query.half(), gallery.half(), q, g).summary()
    assert {n: v.item() for n, v in metric.compute().items()} == pytest.approx(expected, abs=1e-7)


def test_bad_input() -> None:
    data = columns(*crowd())
    metric = RankingMetric()
    with pytest.raises(ValueError, match=r"must be \(N, D\)"):
        metric.update(data[0][:2], *(column[:3] for column in data[1:]))
    wrong = [*data[:3], data[3][:, None], data[4]]  # as many, but a column
    with pytest.raises(ValueError, match=r"is_query and index \(N,\)"):
        metric.update(*(column[:3] for column in wrong))
    with pytest.raises(ValueError, match="not finite.*row 1"):
        metric.update(torch.tensor([[1.0], [torch.nan]]), *(column[:2] for column in data[1:]))
    metric.update(*(column[:2] for column in data))
    with pytest.raises(ValueError, match="2 queries and 0 gallery"):
        metric.compute()
    with pytest.raises(ValueError, match="pooled"):
        RankingMetric(protocol=Protocol(tracklets=True))


@pytest.mark.system
def test_two_processes_find_what_one_finds_however_little_one_has(
    starter: Launcher | Starter, tmp_path: Path
) -> None:
    (tmp_path / "process.py").write_text(PROCESS)
    end_well(start_ranks(starter, "process.py", [], tmp_path))
    query, gallery, q, g = crowd(3)
    expected = rank(query, gallery, q, g).summary()
    halves = rank(query.half(), gallery.half(), q, g).summary()
    for number in (0, 1):
        found = [
            {name: value.item() for name, value in values.items()}
            for values in torch.load(tmp_path / f"{number}.pt")
        ]
        for values, wanted in zip(found, [expected] * 3 + [halves] * 2, strict=True):
            assert values == pytest.approx(wanted, abs=1e-7)


def test_no_query_with_a_match_is_the_same_error_everywhere() -> None:
    query, gallery, q, g = crowd()
    alone = Ids(q.pids + 100, q.camids, q.paths)
    with pytest.raises(NoMatchError, match="none of 30 queries"):
        rank(query, gallery, alone, g).summary()
    with pytest.raises(NoMatchError, match="none of 30 queries"):
        evaluate(Embeddings(alone, g, {"x": Exit(query, gallery, 1)}))
    with pytest.raises(NoMatchError, match="none of 30 queries"):
        filled(columns(query, gallery, alone, g), torch.arange(150)).compute()
