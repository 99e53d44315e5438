"""Two runs on the same queries: what is compared with what, and which runs are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from reid_lab.callbacks.ranking import query_scores
from reid_lab.cli.main import main
from reid_lab.frontier.compare import COMPARISON, CompareError, compare_runs
from reid_lab.protocol import SINGLE_SHOT
from reid_lab.results.rows.accuracy import QUERY_SCORES, QueryScoreRow
from reid_lab.retrieval import Embeddings, Exit, Ids, evaluate
from reid_lab.retrieval.bootstrap import paired_bootstrap
from tests.frontier.runs import make_run

PIDS = ("1", "1", "2", "3", "3", "3")
SMALL = {"early": (10e6, 0.5), "late": (20e6, 0.7)}
LARGE = {"early": (15e6, 0.5), "last": (40e6, 0.7)}


def run(
    folder: Path, exits: dict[str, tuple[float, float]], hits: dict[str, str], **more: object
) -> Path:
    """`hits`: exit -> a digit a query, 1 where Rank-1 is right; the average precision is half."""
    make_run(folder, exits=exits, **more)  # type: ignore[arg-type]
    rows = [
        QueryScoreRow(
            image=f"{i}.jpg",
            pid=pid,
            camid="1",
            trials=1,
            rank1={exit: float(line[i]) for exit, line in hits.items()},
            ap={exit: float(line[i]) / 2 for exit, line in hits.items()},
        )
        for i, pid in enumerate(PIDS)
    ]
    QUERY_SCORES.write(folder / "results" / QUERY_SCORES.file, rows)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    a = run(tmp_path / "a", SMALL, {"early": "110000", "late": "111100"})
    return a, run(tmp_path / "b", LARGE, {"early": "100000", "last": "111111"})


def test_by_exit_and_at_equal_cost(pair: tuple[Path, Path]) -> None:
    rows = compare_runs(*pair).rows
    found = [(r.by, r.budget, r.exit_a, r.exit_b, round(6 * r.rank1_difference)) for r in rows]
    assert found == [
        ("exit", 15e6, "early", "early", 1),
        ("exit", 40e6, "late", "last", -2),
        ("cost", 15e6, "early", "early", 1),
        ("cost", 20e6, "late", "early", 3),
        ("cost", 40e6, "late", "last", -2),
    ]
    assert all(r.mAP_difference == pytest.approx(r.rank1_difference / 2) for r in rows)
    assert all(r.rank1_low <= r.rank1_difference <= r.rank1_high for r in rows)
    assert (rows[3].rank1_a, rows[3].rank1_b) == pytest.approx((4 / 6, 1 / 6))


def test_a_folder_of_seeds_is_one_side(pair: tuple[Path, Path], tmp_path: Path) -> None:
    run(tmp_path / "seeds" / "0", SMALL, {"early": "110000", "late": "111100"})
    run(tmp_path / "seeds" / "1", SMALL, {"early": "000000", "late": "000000"}, seed=1)
    (early, *_) = compare_runs(tmp_path / "seeds", pair[1]).rows
    assert early.rank1_a == pytest.approx(1 / 6)
    hits = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0] * 6, [1, 0, 0, 0, 0, 0]]).numpy()
    wanted = paired_bootstrap(hits[:2], hits[2:], torch.tensor([1, 1, 2, 3, 3, 3]).numpy())
    assert (early.rank1_difference, early.rank1_low, early.rank1_high) == pytest.approx(wanted)


def test_a_seed_that_was_run_twice_counts_once(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, right = ({"early": digit * 6, "late": digit * 6} for digit in "01")
    seeds = tmp_path / "seeds"
    for age, (name, (hits, more)) in enumerate(
        {
            "newer": (right, {}),
            "older": (wrong, {}),
            "seed1": (wrong, {"seed": 1}),
            "rate": (wrong, {"lr": 0.2}),  # seed 0, with other settings
        }.items()
    ):
        folder = run(seeds / name, SMALL, hits, **more)
        os.utime(folder / "results" / "summary.json", (9 - age, 9 - age))
    assert main(["compare", str(seeds), str(pair[1])]) == 0
    printed = capsys.readouterr().out
    same = f"left out: {seeds / 'older'}, as {seeds / 'newer'} has the same settings and seed 0"
    assert same in printed
    assert printed.count("left out") == 1
    assert compare_runs(seeds, pair[1]).rows[0].rank1_a == pytest.approx(1 / 3)


def test_the_command_prints_and_writes(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.csv"
    assert main(["compare", *map(str, pair), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "At equal cost, Rank-1" in printed and "20.0 M: late / early" in printed
    assert COMPARISON.read(out) == compare_runs(*pair).rows


def test_exits_of_one_run(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    one = str(pair[0])
    (row,) = compare_runs(pair[0], pair[0], [("late", "early")]).rows
    assert (row.exit_a, row.exit_b, row.budget) == ("late", "early", 20e6)
    assert row.rank1_difference == pytest.approx(2 / 6) and row.rank1_low <= 2 / 6 <= row.rank1_high
    assert main(["compare", one, one, "--exits", "late:early"]) == 0
    assert "late / early" in capsys.readouterr().out
    for given, status, message in (
        ("late:last", 1, "unknown exit 'last'; available: early, late"),
        ("late", 2, "'late': expected EXIT:EXIT, such as fusion:stage4"),
    ):
        assert main(["compare", one, one, "--exits", given]) == status
        assert message in capsys.readouterr().err
    fix = "is given twice: give two folders, or"
    with pytest.raises(CompareError, match=f"{fix} exits to compare exits of one"):
        compare_runs(pair[0], pair[0] / ".." / "a")
    assert main(["compare", one, one]) == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert f"{fix} --exits to compare exits of one, such as EXIT:EXIT" in printed


def test_names_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup."""
    one, two = (
        run(tmp_path / name, {"[bold]": (1e6, 0.5)}, {"[bold]": "110000"})
        for name in ("[red]a[0]", "b")
    )
    assert main(["compare", str(one), str(two)]) == 0
    printed = capsys.readouterr().out
    assert f"A: {one}" in printed and "1.0 M: [bold]" in printed


def test_runs_that_cannot_be_compared(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    hits = {"early": "110000", "late": "111100"}
    other = run(tmp_path / "protocol", SMALL, hits, protocol={"query": "multi"})
    with pytest.raises(CompareError, match="other protocols"):
        compare_runs(a, other)
    table = a / "results" / QUERY_SCORES.file
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(CompareError, match="tested on other queries .people: queries of"):
        compare_runs(a, b)
    table.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    with pytest.raises(CompareError, match="no columns of the exit 'late'"):
        compare_runs(a, b)
    table.unlink()
    with pytest.raises(CompareError, match="no such file; older runs have none: test again"):
        compare_runs(a, b)
    run(tmp_path / "mixed" / "0", SMALL, hits)
    run(tmp_path / "mixed" / "1", LARGE, {"early": "110000", "last": "111100"})
    with pytest.raises(CompareError, match="differ only in the seed"):
        compare_runs(tmp_path / "mixed", b)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompareError, match="no finished run"):
        compare_runs(tmp_path / "empty", b)


@pytest.mark.parametrize("protocol", [SINGLE_SHOT, None])
def test_scores_have_the_accuracies_as_their_means(protocol: object) -> None:
    random = torch.Generator().manual_seed(0)
    pids = torch.randint(1, 9, (60,), generator=random)
    names = [f"{i}.jpg" for i in range(60)]
    ids = Ids(pids, torch.arange(60) % 2 + 1, names)  # type: ignore[arg-type]
    gallery = Ids(pids % 7 + 1, (torch.arange(60) + 1) % 2 + 1, names)  # type: ignore[arg-type]
    rows = torch.rand(2, 60, 5, generator=random)
    exits = {n: Exit(rows[0] * s, rows[1], 1) for n, s in (("a", 1), ("b", 5))}
    more = {} if protocol is None else {"protocol": protocol}
    evaluation = evaluate(Embeddings(ids, gallery, exits), **more)  # type: ignore[arg-type]
    scores = query_scores(evaluation)
    total = sum(row.trials for row in scores)
    for exit, ranking in evaluation.rankings.items():
        means = [sum(getattr(r, m)[exit] * r.trials for r in scores) for m in ("rank1", "ap")]
        assert [m / total for m in means] == pytest.approx([ranking.rank1, ranking.mAP])
    answerable = evaluation.rankings["a"].answerable.any(0)
    assert [row.image for row in scores] == [names[i] for i in answerable.nonzero().flatten()]
